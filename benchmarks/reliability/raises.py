"""F05, F06: handlers that raise, and that run out of memory: whose request it was gets the error.

Whoever was in the same batch is answered. No worker restarts because a handler raised; one that ran
out of memory three times in a minute is replaced when its batch is done, which nobody notices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from accounting import (
    Allowed,
    Ask,
    EchoServer,
    Traffic,
    accounts,
    check,
    echo_server,
    on_loop,
    say,
)
from budget import Budget
from outcome import Outcome
from standalone import standalone

RELEASE_S = 90.0
MOST = 10_000
WORKERS = 2
MOST_RUNS = 12
"""A batch of 8 that fails is tried in halves: a row may run once for each size, and alone."""
RAISING = (Ask("plain", weight=65), Ask("raises", "raise no", weight=35))
HUNGRY = (Ask("plain", weight=90), Ask("out of memory", "memory", weight=10))
ALLOWED = {
    "plain": Allowed(executions=MOST_RUNS),
    "raises": Allowed(statuses=(503, 1014), executions=MOST_RUNS),
    "out of memory": Allowed(statuses=(507, 1013), executions=MOST_RUNS),
}


def run(budget: Budget) -> list[Outcome]:
    """Have handlers raise `n` times, and a tenth of that run out of memory."""
    count = budget.trials(MOST, 0.005)
    with echo_server() as echo:
        echo.start(batch_size=8, default_workers_per_model=WORKERS, job_queue_size=1000)
        echo.begin()
        raised = on_loop(_load(echo, RAISING, count, budget.share(0.7)))
        restarts = len({run_.pid for run_ in echo.runs()} - set(echo.ready_pids()))
        memory = on_loop(_load(echo, HUNGRY, max(20, count // 10), budget.share(0.3)))
        verdict = check(echo.evidence(WORKERS), ALLOWED)
        replaced = len({run_.pid for run_ in echo.runs()}) - WORKERS - restarts
        counted = echo.counters().restarts
    return [
        accounts(
            "handlers that raise and run out of memory (F05, F06)",
            verdict,
            raised + memory,
            "raise",
            also=("status",),
        ),
        Outcome(
            property="handlers that raise (F06): workers that end",
            n=raised,
            bar="0",
            figure=f"{restarts}",
            passed=restarts == 0,
            failures=restarts,
            unit="raise",
        ),
        Outcome(
            property="handlers that run out of memory (F05): workers that are lost",
            n=memory,
            bar="0; replaced at most once in 3",
            figure=f"{counted} lost, {replaced} replaced",
            passed=counted == 0 and replaced <= memory / 3,
            failures=counted,
            unit="MemoryError",
        ),
    ]


async def _load(echo: EchoServer, asks: Sequence[Ask], count: int, budget: Budget) -> int:
    """Until the kind that fails has been asked for `count` times; how often it was."""
    start, failed = len(echo.ledger), 0
    traffic = Traffic(echo, asks, budget.seed, clients=24, per_s=200, pause_s=0.002)
    async with traffic:
        while failed < count and not budget.is_over:
            await asyncio.sleep(0.3)
            failed = sum(row.kind != "plain" for row in echo.ledger.rows(start))
    say(f"{len(echo.ledger):,} requests")
    return sum(row.kind != "plain" for row in echo.ledger.rows(start))


if __name__ == "__main__":
    standalone(run)
