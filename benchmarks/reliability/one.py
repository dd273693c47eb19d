"""Runs one scenario by itself for `chaos.py`: `python one.py FILE SECONDS SEED INTO [N]`.

Its progress goes to standard output, its outcomes as JSON into a file.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from budget import Budget
from outcome import as_outcomes
from standalone import line


def main(path: Path, seconds: float, seed: int, into: Path, n: int | None = None) -> None:
    """Run it, with exactly `n` trials if that is given."""
    # by its path, and under a name of its own: a scenario may be called like any other module
    spec = importlib.util.spec_from_file_location(f"scenario_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    began = time.monotonic()
    outcomes = as_outcomes(module.run(Budget(seconds, n, seed)))
    for outcome in outcomes:
        print(line(outcome), flush=True)
    took_s = round(time.monotonic() - began, 1)
    found = [asdict(one) | {"proves": one.proves, "took_s": took_s} for one in outcomes]
    into.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        float(sys.argv[2]),
        int(sys.argv[3]),
        Path(sys.argv[4]),
        int(sys.argv[5]) if len(sys.argv) > 5 else None,
    )
