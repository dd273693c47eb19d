"""SEC-19: mutants of the smuggling corpus; ours and h11 must frame alike what both accept.

    python benchmarks/reliability/smuggling.py --n 200000

nginx is not compared here; the corpus itself runs against every port in tests/security.
"""

from __future__ import annotations

import sys
from pathlib import Path

from budget import Budget
from outcome import Outcome
from standalone import standalone

_TESTS = Path(__file__).parents[2] / "tests"
sys.path[:0] = [str(_TESTS / folder) for folder in ("security", "fuzz", "harness")]

import mutation  # noqa: E402  it lies elsewhere
from smuggling_corpus import CANARY, CASES  # noqa: E402  as above
from two_readers import by_h11, by_ours  # noqa: E402  as above

MOST = 1_000_000


def run(budget: Budget) -> Outcome:
    """Try `n` mutants."""
    count = budget.trials(MOST, 0.0004)
    seeds = [case.data + CANARY for case in CASES]
    tried = both = differ = 0
    for data in mutation.inputs(seeds, count, budget.seed):
        if budget.is_over:
            break
        tried += 1
        ours, theirs = by_ours(data), by_h11(data)
        if ours is None or theirs is None:
            continue
        both += 1
        if ours != theirs:
            differ += 1
            print(f"{data!r}: {ours!r}, h11: {theirs!r}")
    return Outcome(
        property="smuggling (SEC-19): accepted requests that h11 frames differently",
        n=tried,
        bar="0",
        figure=str(differ),
        passed=differ == 0 and both > 0,
        failures=differ,
        unit="request",
        notes=f"{both:,} were accepted by both",
    )


if __name__ == "__main__":
    standalone(run)
