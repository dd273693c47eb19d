"""F09: a request that kills its worker costs its sender an error and nobody else anything.

Batches of 8 and of 32 with one culprit or two, each killing in another way; a culprit that kills
only in company, which must be answered in the end; and the same poison sent again and again.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter

from accounting import (
    Allowed,
    Ask,
    EchoServer,
    accounts,
    check,
    echo_server,
    journal,
    on_loop,
    poison,
    say,
)
from budget import Budget
from outcome import Outcome
from standalone import standalone

RELEASE_S = 900.0
MOST = 500
WORKERS = 2
CASES = ((8, 1), (32, 1), (8, 2), (32, 2))
WAYS = ("segv", "abrt", "exit 7", "signal SIGBUS", "signal SIGILL", "signal SIGFPE")
REFUSED = (500, 422)
_OTHER_IDS = 900_000_000
"""Ids of requests that are sent several times; no row of the ledger has them."""
ALLOWED = {
    "poison": Allowed(statuses=(500,)),
    "again": Allowed(statuses=REFUSED),
    "companion": Allowed(executions=1),
}


def run(budget: Budget) -> list[Outcome]:
    """Send `n` poisoned batches."""
    count = budget.trials(MOST, 1.0)
    with echo_server() as echo:
        echo.start(batch_size=32, default_workers_per_model=WORKERS, job_queue_size=500)
        echo.begin()
        trial = _Trial(echo, budget)
        on_loop(trial.go(count))
        verdict = check(echo.evidence(WORKERS), ALLOWED)
        runs = echo.runs()
    found = [
        accounts("poisoned batches (F09)", verdict, trial.batches, "batch", also=("status",)),
        _innocents(echo, trial.batches),
        _deaths(trial, runs),
        _replays(echo, runs, trial),
    ]
    sizes = Counter(len(run_.ids) for run_ in runs)
    say(f"{sizes[8]} runs of 8 and {sizes[32]} of 32")
    return found


class _Trial:
    """Batch after batch."""

    def __init__(self, echo: EchoServer, budget: Budget) -> None:
        self._echo = echo
        self._budget = budget
        self._chance = random.Random(budget.seed)
        self.batches = 0
        self.culprits: list[tuple[range, int]] = []
        """The requests of each batch, and how many of them kill, in company at least."""
        self.replays = 0

    async def go(self, count: int) -> None:
        cases = itertools.cycle(CASES)
        ways = itertools.cycle(WAYS)
        while self.batches < count and not self._budget.is_over:
            size, culprits = next(cases)
            await self._poisoned(size, culprits, next(ways))
            if self.batches % 5 == 0:
                await self._shy(size)
                await self._replay(8, next(ways))
            if self.batches % 20 == 0:
                say(f"{self.batches} of {count} batches")

    async def _poisoned(self, size: int, culprits: int, way: str) -> None:
        innocents = [Ask("innocent")] * (size - culprits)
        ids = await self._batch([Ask("poison", way)] * culprits + innocents)
        self.culprits.append((ids, culprits))

    async def _shy(self, size: int) -> None:
        """Poison only in company: alone it is answered."""
        ids = await self._batch([Ask("shy", "batched:segv")] + [Ask("innocent")] * (size - 1))
        self.culprits.append((ids, 1))

    async def _replay(self, size: int, way: str) -> None:
        """The same bytes, twice more: known by now, they must not hurt a batch."""
        again = Ask("again", way, as_id=_OTHER_IDS + self.replays)
        await self._batch([again, *[Ask("innocent")] * (size - 1)])
        for _ in range(2):
            await self._batch([again, *[Ask("companion")] * (size - 1)])
            self.replays += 1

    async def _batch(self, asks: list[Ask]) -> range:
        """Send it; the ids of its requests."""
        self._chance.shuffle(asks)
        self.batches += 1
        return await poison.batch(self._echo, asks, WORKERS)


def _innocents(echo: EchoServer, batches: int) -> Outcome:
    rows = [row for row in echo.ledger.rows() if row.kind in ("innocent", "companion", "shy")]
    failed = sum(row.status != 200 for row in rows)
    return Outcome(
        property="poisoned batches (F09): batch-mates of poison answered 200",
        n=batches,
        bar="100 %",
        figure=f"{1 - failed / max(1, len(rows)):.4%}",
        passed=failed == 0,
        failures=failed,
        unit="batch",
        notes=f"{len(rows):,} requests; those that are poison only in company are among them",
    )


def _deaths(trial: _Trial, runs: list[journal.Run]) -> Outcome:
    """A batch that came in parts, as a busy machine may have it, may cost a worker for each."""
    of_id: dict[int, list[journal.Run]] = {}
    for run_ in runs:
        for id_ in run_.ids:
            of_id.setdefault(id_, []).append(run_)
    excess, deaths = 0, 0
    for ids, culprits in trial.culprits:
        its = {id(run_): run_ for id_ in ids for run_ in of_id.get(id_, ())}
        died = [run_ for run_ in its.values() if run_.ended_s is None]
        parts = sum(len(run_.ids) > 1 for run_ in died)
        deaths += len(died)
        if len(died) > max(1, parts) + 2 * culprits or parts > culprits:
            excess += 1
            say(f"{len(died)} deaths, {parts} of them of batches, for {culprits} of {len(ids)}")
    return Outcome(
        property="poisoned batches (F09): workers that die of k culprits",
        n=len(trial.culprits),
        bar="≤ 1 + 2k each",
        figure=f"{excess} batches with more, {deaths} deaths in all",
        passed=excess == 0,
        failures=excess,
        unit="batch",
    )


def _replays(echo: EchoServer, runs: list[journal.Run], trial: _Trial) -> Outcome:
    """Companions of a known poison ran in a batch that died, if they ran more than once."""
    executions = journal.executions(runs)
    hurt = sum(executions[row.id] > 1 for row in echo.ledger.rows() if row.kind == "companion")
    return Outcome(
        property="poison sent again (F09): batches that die of it",
        n=trial.replays,
        bar="0",
        figure=f"{hurt} companions ran twice",
        passed=hurt == 0,
        failures=hurt,
        unit="replay",
    )


if __name__ == "__main__":
    standalone(run)
