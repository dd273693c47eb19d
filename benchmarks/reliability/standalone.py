"""Runs one scenario from the command line: `python benchmarks/reliability/kills.py --n 1000`.

A scenario ends with

    if __name__ == "__main__":
        standalone(run)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from budget import Budget
from outcome import Outcome, as_outcomes


def standalone(run: Callable[[Budget], object]) -> None:
    """Run it with the budget of the command line; exit with 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--n", type=int, help="exactly so many trials, however long they take")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for the trials (60)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    outcomes = as_outcomes(run(Budget(given.seconds, given.n, given.seed)))
    for outcome in outcomes:
        print(line(outcome), flush=True)
    sys.exit(not all(outcome.passed for outcome in outcomes))


def line(outcome: Outcome) -> str:
    """One outcome on one line."""
    mark = "pass" if outcome.passed else "FAIL"
    proves = f"; {outcome.proves}" if outcome.proves else ""
    notes = f" ({outcome.notes})" if outcome.notes else ""
    return (
        f"{mark}  {outcome.property}: {outcome.figure} (bar {outcome.bar}, N = {outcome.n:,}"
        f"{proves}){notes}"
    )
