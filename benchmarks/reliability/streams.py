"""F43: answers in pieces that end early: the client can always tell, and nothing is tried again.

Workers die, or handlers raise, after some pieces. Over HTTP the connection then ends without the
last chunk; over gRPC, where pieces are joined, the call has an error. Whole streams are whole.
"""

from __future__ import annotations

import asyncio

from accounting import (
    BROKEN,
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

RELEASE_S = 240.0
MOST = 1_000
WORKERS = 4
ASKS = (
    Ask("whole", "stream 3", weight=20),
    Ask("plain", weight=20),
    Ask("worker dies", "stream 3 segv"),
    Ask("worker dies", "stream 1 exit"),
    Ask("handler raises", "stream 2 raise"),
)
ALLOWED = {
    "worker dies": Allowed(statuses=(BROKEN, 1013), executions=1),
    "handler raises": Allowed(statuses=(BROKEN, 1013, 1014), executions=1),
}


def run(budget: Budget) -> list[Outcome]:
    """Cut `n` streams."""
    count = budget.trials(MOST, 0.2)
    with echo_server() as echo:
        # alone, as what one of a batch does to its worker it does to all streams
        echo.start(batch_size=1, default_workers_per_model=WORKERS, job_queue_size=1000)
        echo.begin()
        on_loop(_load(echo, count, budget))
        verdict = check(echo.evidence(WORKERS), ALLOWED)
        cut = [row for row in echo.ledger.rows() if row.kind in ALLOWED]
    fake = sum(row.status == 200 for row in cut)
    return [
        accounts("answers in pieces that end early (F43)", verdict, len(cut), "cut"),
        Outcome(
            property="answers in pieces that end early (F43): that look whole",
            n=len(cut),
            bar="0",
            figure=f"{fake}",
            passed=fake == 0,
            failures=fake,
            unit="cut",
        ),
    ]


async def _load(echo: EchoServer, count: int, budget: Budget) -> None:
    traffic = Traffic(echo, ASKS, budget.seed, clients=8, per_s=20, grpc_clients=2, pause_s=0.05)
    cut = 0
    async with traffic:
        while cut < count and not budget.is_over:
            await asyncio.sleep(1.0)
            cut = sum(row.kind in ALLOWED for row in echo.ledger.rows())
    say(f"{cut:,} cuts among {len(echo.ledger):,} requests")


if __name__ == "__main__":
    standalone(run)
