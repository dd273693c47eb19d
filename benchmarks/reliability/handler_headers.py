"""SEC-20: 10,000 sets of headers that a handler might set; a strict client reads every answer.

python benchmarks/reliability/handler_headers.py --n 10000
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from budget import Budget
from outcome import Outcome
from standalone import standalone

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "security"))

import h11
from header_sets import OURS, seen_by_a_strict_client, sets

from marserve.errors import HandlerFailed

MOST = 10_000


def run(budget: Budget) -> Outcome:
    """Try `n` sets."""
    count = budget.trials(MOST, 0.001)
    taken = wrong = 0
    for headers, status, phrase in sets(count, random.Random(budget.seed)):
        try:
            seen = seen_by_a_strict_client(headers, status, phrase)
        except HandlerFailed:
            continue
        except (AssertionError, h11.RemoteProtocolError) as error:
            print(f"{headers!r}: {error}")
            wrong += 1
            continue
        taken += 1
        wanted = [(name.lower(), value.strip(" \t")) for name, value in headers]
        wrong += seen != [one for one in wanted if one[0] not in OURS]
    return Outcome(
        property="headers of handlers (SEC-20): seen otherwise than they were set",
        n=count,
        bar="0",
        figure=str(wrong),
        passed=wrong == 0,
        failures=wrong,
        unit="set",
        notes=f"{taken:,} were sent, {count - taken - wrong:,} refused",
    )


if __name__ == "__main__":
    standalone(run)
