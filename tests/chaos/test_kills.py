"""F01 in the commit tier: workers killed under load cost nobody an answer, and all books agree."""

from __future__ import annotations

import asyncio

import uvloop
from chaos.asks import Ask, cycle
from chaos.checker import Allowed, check
from chaos.echo import EchoServer
from chaos.faults import KILL, KILL_FROZEN, Done, FaultDriver, plan
from chaos.load import ClosedLoop, GrpcLoop, OpenLoop

KILLS = 20
WORKERS = 4
ASKS = (
    Ask("plain", weight=10),
    Ask("working", "sleep 0.004", weight=10),
    Ask("large question", ballast_bytes=200_000),
    Ask("large answer", "big 200000"),
    Ask("no retry", "sleep 0.004", may_retry=False),
)
ALLOWED = {"no retry": Allowed(statuses=(200, 500, 503, 1013, 1014), executions=1)}


def test_killed_workers_cost_nobody_an_answer_over_http_and_grpc(echo: EchoServer) -> None:
    echo.start(batch_size=8, default_workers_per_model=WORKERS)
    echo.begin()

    done = uvloop.run(load_and_kills(echo))
    verdict = check(echo.evidence(WORKERS), ALLOWED)

    assert verdict.is_clean, verdict.report()
    assert len(done) == KILLS
    assert verdict.requests > KILLS * 20
    assert verdict.executions_most > 1, "no kill has hit a worker at work"


async def load_and_kills(echo: EchoServer) -> list[Done]:
    loops = (
        ClosedLoop(echo.ledger, echo.http, "echo", cycle(ASKS, 1), pause_s=0.01),
        OpenLoop(echo.ledger, echo.http, "echo", cycle(ASKS, 2), per_s=100),
        GrpcLoop(echo.ledger, echo.grpc, "echo", cycle(ASKS, 3), pause_s=0.01),
    )
    await loops[0].start(12)
    await loops[1].start()
    await loops[2].start(4)
    driver = FaultDriver(plan(1, 12.0, [KILL, KILL, KILL_FROZEN]), echo.pids)
    await driver.run(KILLS)
    await asyncio.gather(*(loop.finish() for loop in loops))
    return driver.done
