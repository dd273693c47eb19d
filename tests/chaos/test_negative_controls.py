"""The harness finds what it is there to find: five bugs, planted from outside into a server.

A harness that lets one of them pass proves nothing with its zeros.
"""

from __future__ import annotations

import asyncio
import sys
import time

import pytest
import uvloop
from chaos.asks import PLAIN, Ask, cycle
from chaos.checker import Allowed, Verdict, check
from chaos.echo import EchoServer
from chaos.load import ClosedLoop
from running_server import HANDLERS

WRAPPER = HANDLERS.parent / "planted" / "serve.py"
REQUESTS = 400
POISON = Ask("poison", "segv")
FAILS = Allowed(statuses=(500,))


@pytest.mark.parametrize(
    ("bug", "rules"),
    [
        ("double_resolve", {"doubled", "counters"}),
        ("dropped_result", {"lost"}),
        ("swapped_ids", {"crossed"}),
        ("leaked_descriptor", {"leak"}),
    ],
)
def test_the_harness_finds_a_planted_bug(echo: EchoServer, bug: str, rules: set[str]) -> None:
    start(echo, bug)
    echo.begin()
    uvloop.run(clients(echo, REQUESTS))

    verdict = check(echo.evidence())

    assert rules <= set(verdict.broken), verdict.report()


def test_the_harness_finds_a_request_that_is_tried_for_ever(echo: EchoServer) -> None:
    start(echo, "endless_requeue", workers=6)
    echo.begin()
    verdict = uvloop.run(poisoned(echo))

    assert "executions" in verdict.broken, verdict.report()


def start(echo: EchoServer, bug: str, workers: int = 1) -> None:
    echo.server.program = (sys.executable, str(WRAPPER), bug)
    echo.settle_s = 0.2
    echo.start(batch_size=4, default_workers_per_model=workers)


async def clients(echo: EchoServer, count: int) -> None:
    """So many requests of 16 clients; whoever waits for an answer in vain is left waiting."""
    loop = ClosedLoop(echo.ledger, echo.http, "echo", cycle([PLAIN], 1), limit=count)
    await loop.start(16)
    before = -1
    while before != (before := len(echo.ledger) - echo.ledger.open):
        await asyncio.sleep(0.2)
    await loop.finish(0.05)


async def poisoned(echo: EchoServer) -> Verdict:
    """One request that kills every worker it meets, until it has run too often."""
    loop = ClosedLoop(echo.ledger, echo.http, "echo", cycle([POISON], 1), limit=1)
    await loop.start(1)
    until = time.monotonic() + 60
    while echo.ledger.open and time.monotonic() < until:
        await asyncio.sleep(0.05)
        verdict = check(echo.evidence(leaks_too=False), {"poison": FAILS})
        if "executions" in verdict.broken:
            break
    await loop.finish(0.05)
    return check(echo.evidence(leaks_too=False), {"poison": FAILS})
