"""SEC-18: a thousand unpackings of an archive that a thread swaps a thousand times a second."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "harness"))

from budget import Budget
from outcome import Outcome
from standalone import standalone
from swapped_archives import WAYS, SwappedStore

EACH_S = 0.06


def run(budget: Budget) -> Outcome:
    """The same share for each way of swapping."""
    logging.disable(logging.ERROR)
    trials = budget.trials(1000, EACH_S)
    tried = accepted = swaps = failures = 0
    first = ""
    for way in WAYS:
        left = max(1, trials // len(WAYS))
        while left > 0 and not budget.is_over:
            with tempfile.TemporaryDirectory(prefix="marserve-swaps-") as folder:
                some = min(left, 25)
                try:
                    figures = SwappedStore(Path(folder)).unpack(some, way)
                except AssertionError as error:
                    failures += 1
                    first = first or f"; first: {way}: {error}"
                else:
                    accepted, swaps = accepted + figures[0], swaps + figures[2]
                tried += some
                left -= some
                shutil.rmtree(Path(folder) / "cache", ignore_errors=True)
    return Outcome(
        property="archives swapped while they are unpacked: digest of other content",
        n=tried,
        bar="0",
        figure=str(failures),
        passed=failures == 0,
        failures=failures,
        unit="unpacking",
        notes=f"SEC-18; {accepted:,} accepted, the rest refused; {swaps:,} swaps{first}",
    )


if __name__ == "__main__":
    standalone(run)
