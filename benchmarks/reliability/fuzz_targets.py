"""F-HTTP, F-ARC, F-IPC and others: every fuzz target, a million inputs each, guided by coverage."""

from __future__ import annotations

from accounting import say
from budget import Budget
from fuzz import run as fuzz
from fuzz import target_files
from outcome import Outcome
from standalone import standalone

RELEASE_S = 2400.0
MOST = 1_000_000


def run(budget: Budget) -> list[Outcome]:
    """Give each target up to a million inputs, or what fits into its share of the time."""
    names = target_files.names()
    each_s = budget.time_s / len(names)
    found = []
    for name in names:
        row = fuzz(name, budget.n or MOST, each_s if budget.n is None else 3600.0)
        row["failures"] = None if not row["n"] else row["notes"].count(";") + bool(row["notes"])
        found.append(Outcome(**row, unit="input"))
        say(f"{name}: {row['n']:,} inputs, {row['figure']}")
    return found


if __name__ == "__main__":
    standalone(run)
