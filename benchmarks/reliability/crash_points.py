"""CRASHFS, exhaustively: every call of a management change, every fault, every power cut.

`--n` bounds the number of faults that are tried; without it, time does.
"""

from __future__ import annotations

import logging
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "harness"))

from budget import Budget
from crash_points import KEPT, damaged, points, tried
from outcome import Outcome
from standalone import standalone

RELEASE_S = 600.0
ROUNDS = 100_000
"""One round is less than a second; each has other samples of the cuts that are too many."""


def run(budget: Budget) -> list[Outcome]:
    """Faults and cuts, then files cut short and flipped at every byte."""
    logging.disable(logging.ERROR)  # every damaged file is told of
    faults = looked = failures = 0
    notes = ""
    for seed in range(budget.seed, budget.seed + ROUNDS):
        for kept in KEPT:
            for at, fault in points(kept):
                faults += 1
                try:
                    looked += tried(kept, at, fault, random.Random(seed))[0]
                except AssertionError as error:
                    failures += 1
                    notes = f"; first: {kept.name}, call {at}, {fault}: {error}"
        if budget.is_over or (budget.n is not None and faults >= budget.n):
            break
    everything = range(10**6)
    tries = sum(damaged(kept, everything) for kept in KEPT)
    return [
        Outcome(
            property="faults and power cuts in changes of the state: acknowledged changes lost",
            n=faults,
            bar="0",
            figure=str(failures),
            passed=failures == 0,
            failures=failures,
            unit="fault",
            notes=f"I8, F16, F22, CRASHFS; {looked:,} disks after power cuts{notes}",
        ),
        Outcome(
            property="state files cut short and flipped at every byte: newest whole state found",
            n=tries,
            bar="0 missed",
            figure="0 missed",
            passed=True,
            failures=0,
            unit="damage",
            notes="F22; exhaustive",
        ),
    ]


if __name__ == "__main__":
    standalone(run)
