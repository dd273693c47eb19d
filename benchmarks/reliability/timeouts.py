"""F10: handlers that are too slow, among fast ones: no answer may reach anybody else, or come late.

A model may take one second; some requests sleep a little longer, so that their answers come just
when their workers are being ended and their successors begin.
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
    percentile,
    say,
)
from budget import Budget
from outcome import Outcome
from standalone import standalone

RELEASE_S = 600.0
MOST = 2_000
WORKERS = 8
LIMIT_S = 1.0
LATE_S = 0.25
ASKS = (
    Ask("fast", weight=200),
    Ask("almost late", "sleep 0.9", weight=1),
    Ask("just late", "sleep 1.005", weight=2),
    Ask("late", "sleep 1.2", weight=2),
)
LATE = (504, 1004)
# a batch has one answer: who is with a slow one is as late as it is
ALLOWED = {
    "fast": Allowed(statuses=(200, *LATE)),
    "almost late": Allowed(statuses=(200, *LATE)),
    "just late": Allowed(statuses=(200, *LATE)),
    "late": Allowed(statuses=LATE),
}


def run(budget: Budget) -> list[Outcome]:
    """Have `n` requests time out."""
    count = budget.trials(MOST, 0.25)
    with echo_server() as echo:
        echo.start(
            model={"responseTimeout": int(LIMIT_S)},
            batch_size=2,
            default_workers_per_model=WORKERS,
            job_queue_size=2000,
        )
        echo.begin()
        on_loop(_load(echo, count, budget))
        verdict = check(echo.evidence(WORKERS), ALLOWED)
        rows = [row for row in echo.ledger.rows() if row.status in LATE]
        began = {id_: run_.began_s for run_ in echo.runs() for id_ in run_.ids}
    waits = [row.last_s - began[row.id] for row in rows if row.id in began]
    high = percentile(waits, 0.99)
    return [
        accounts("timeouts among fast requests (F10)", verdict, len(rows), "timeout"),
        Outcome(
            property="timeouts (F10): when the 504 comes",
            n=len(waits),
            bar=f"p99 ≤ {LIMIT_S + LATE_S:g} s for a limit of {LIMIT_S:g} s",
            figure=f"median {percentile(waits, 0.5):.3f} s, p99 {high:.3f} s",
            passed=high <= LIMIT_S + LATE_S,
            notes="from the moment the handler begins",
            unit="timeout",
        ),
    ]


async def _load(echo: EchoServer, count: int, budget: Budget) -> None:
    traffic = Traffic(echo, ASKS, budget.seed, clients=24, per_s=60, grpc_clients=4)
    async with traffic:
        while not budget.is_over:
            await asyncio.sleep(1.0)
            statuses = echo.ledger.statuses()
            late = sum(statuses.get(status, 0) for status in LATE)
            say(f"{late:,} of {count:,} timeouts, {len(echo.ledger):,} requests")
            if late >= count:
                break


if __name__ == "__main__":
    standalone(run)
