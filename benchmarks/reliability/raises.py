"""F05, F06: handlers that raise, and that run out of memory: whose request it was gets the error.

No worker restarts, and whoever was in the same batch is answered.
"""

from __future__ import annotations

import asyncio

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

RELEASE_S = 60.0
MOST = 10_000
WORKERS = 2
MOST_RUNS = 12
"""A batch of 8 that fails is tried in halves: a row may run once for each size, and alone."""
ASKS = (
    Ask("plain", weight=60),
    Ask("raises", "raise no", weight=35),
    Ask("out of memory", "memory", weight=5),
)
FAILED = (503, 1014)
ALLOWED = {
    "plain": Allowed(executions=MOST_RUNS),
    "raises": Allowed(statuses=FAILED, executions=MOST_RUNS),
    "out of memory": Allowed(statuses=(507, 1013), executions=MOST_RUNS),
}


def run(budget: Budget) -> list[Outcome]:
    """Have handlers raise `n` times."""
    count = budget.trials(MOST, 0.004)
    with echo_server() as echo:
        echo.start(batch_size=8, default_workers_per_model=WORKERS, job_queue_size=1000)
        echo.begin()
        before = set(echo.ready_pids())
        on_loop(_load(echo, count, budget))
        verdict = check(echo.evidence(WORKERS), ALLOWED)
        restarts = echo.counters().restarts + len(before - set(echo.ready_pids()))
        raised = sum(row.kind == "raises" for row in echo.ledger.rows())
        memory = sum(row.kind == "out of memory" for row in echo.ledger.rows())
    return [
        accounts("handlers that raise (F06)", verdict, raised, "raise", also=("status",)),
        Outcome(
            property="handlers that raise (F05, F06): workers that restart",
            n=raised + memory,
            bar="0",
            figure=f"{restarts}",
            passed=restarts == 0,
            failures=restarts,
            unit="raise",
            notes=f"{memory:,} of them MemoryError",
        ),
    ]


async def _load(echo: EchoServer, count: int, budget: Budget) -> None:
    traffic = Traffic(echo, ASKS, budget.seed, clients=24, per_s=200, pause_s=0.002)
    async with traffic:
        while not budget.is_over:
            await asyncio.sleep(0.5)
            failed = sum(n for code, n in echo.ledger.statuses().items() if code in FAILED)
            if failed >= count:
                break
    say(f"{len(echo.ledger):,} requests")


if __name__ == "__main__":
    standalone(run)
