"""Runs fuzz targets for long, guided by coverage where atheris is installed.

    python benchmarks/reliability/fuzz.py --target all --n 1000000 [--seconds 60]

Each target runs in a process of its own. Its line says how many inputs were tried and how many
broke something; the bar is none, none that takes a second, and less than 256 MiB of memory beyond
what the imports take. Inputs that broke something are kept in `--keep`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

_FUZZ = Path(__file__).parents[2] / "tests" / "fuzz"
sys.path.insert(0, str(_FUZZ))

import mutation  # noqa: E402  it lies elsewhere
import target_files  # noqa: E402  as above

MAX_ONE_S = 1.0
MAX_GROWTH_MIB = 256
_INSTRUMENTED = ["marserve", "marserve_handlers", "marserve_archiver"]
_DISTINCT_CRASHES = 20
_SLACK_S = 60


class Trial:
    """Counts what becomes of inputs; ends the process after enough of them."""

    def __init__(self, target: target_files.FuzzTarget, n: int, seconds: float, to: Path) -> None:
        self._target = target
        self._n = n
        self._to = to
        self._began = time.monotonic()
        self._ends = self._began + seconds
        self._base_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._count = 0
        self._longest_s = 0.0
        self._crashes: dict[str, str] = {}

    def one(self, data: bytes) -> None:
        """Try one input."""
        before = time.process_time()
        try:
            self._target.one_input(data)
        except Exception as error:  # noqa: BLE001  that is what is looked for
            self._crashed(data, error)
        self._longest_s = max(self._longest_s, time.process_time() - before)
        self._count += 1
        if self._count >= self._n or (not self._count & 63 and time.monotonic() > self._ends):
            self._finish()

    def _crashed(self, data: bytes, error: Exception) -> None:
        place = traceback.extract_tb(error.__traceback__)[-1]
        key = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        if key not in self._crashes and len(self._crashes) < _DISTINCT_CRASHES:
            self._crashes[key] = data.hex()
            traceback.print_exception(error)

    def _finish(self) -> None:
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self._base_kib
        seconds = time.monotonic() - self._began
        self._to.write_text(
            json.dumps(
                {
                    "n": self._count,
                    "per_s": round(self._count / max(seconds, 1e-9)),
                    "longest_s": round(self._longest_s, 3),
                    "grown_mib": round(grown_kib / 1024, 1),
                    "crashes": self._crashes,
                }
            )
        )
        os._exit(0)  # the fuzzer's own loop has no end that could be asked for


def _child(name: str, n: int, seconds: float, to: Path) -> None:
    """Never returns."""
    try:
        import atheris
    except ImportError:
        trial = Trial(target_files.load(name), n, seconds, to)
        for number in range(n):
            for data in mutation.inputs(target_files.load(name).seeds, 10_000, number):
                trial.one(data)
        return
    with atheris.instrument_imports(include=_INSTRUMENTED, enable_loader_override=False):
        target = target_files.load(name)
    corpus = to.parent / f"{name}-corpus"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(seed)
    options = [f"-max_len={mutation.MAX_BYTES}", "-timeout=20", "-rss_limit_mb=4096"]
    trial = Trial(target, n, seconds, to)
    atheris.Setup([sys.argv[0], *options, "-verbosity=0", str(corpus)], trial.one)
    atheris.Fuzz()


def run(name: str, n: int, seconds: float, keep: Path | None = None) -> dict[str, Any]:
    """One target; the outcome as a row of the report."""
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "figures.json"
        command = [sys.executable, __file__, "--child", name, "--n", str(n)]
        command += ["--seconds", str(seconds), "--to", str(to)]
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds + _SLACK_S, check=False
            )
            problem = f"ended with {ended.returncode}: {ended.stderr[-2000:]}"
        except subprocess.TimeoutExpired:
            problem = "hangs"
        figures = json.loads(to.read_text()) if to.exists() else None
    row = {"property": f"fuzzing {name} breaks nothing", "bar": "0 crashes, none ≥ 1 s, < 256 MiB"}
    if figures is None:
        return row | {"n": 0, "figure": problem, "passed": False, "notes": ""}
    crashes = figures["crashes"]
    for number, (where, data) in enumerate(crashes.items()):
        print(f"  {name}: {where}: {bytes.fromhex(data)!r}"[:2000])
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{name}-{number}").write_bytes(bytes.fromhex(data))
    return row | {
        "n": figures["n"],
        "figure": f"{len(crashes)} kinds of crash, {figures['per_s']}/s, longest "
        f"{figures['longest_s']} s, {figures['grown_mib']} MiB more",
        "passed": not crashes
        and figures["longest_s"] < MAX_ONE_S
        and figures["grown_mib"] < MAX_GROWTH_MIB,
        "notes": "; ".join(crashes),
    }


def main() -> int:
    """Print a row for each target. Exit code 1 when anything broke."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="all", help=f"all, or of {target_files.names()}")
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=600.0, help="at most, for each target")
    parser.add_argument("--keep", type=Path, help="a folder for inputs that broke something")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options.child, options.n, options.seconds, options.to)
    wanted = target_files.names() if options.target == "all" else options.target.split(",")
    rows = []
    for name in wanted:
        rows.append(run(name, options.n, options.seconds, options.keep))
        print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    return 0 if all(row["passed"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
