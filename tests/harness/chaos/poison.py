"""Batches with poison in them: one moment at which n requests wait, and what becomes of each.

Gates hold all workers busy while the requests of a batch arrive, so they leave together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import repeat

from chaos.asks import Ask
from chaos.echo import EchoServer
from chaos.load import ClosedLoop

INNOCENT = Ask("innocent")
GATE_S = 0.03


async def batch(
    echo: EchoServer, asks: Sequence[Ask], workers: int, within_s: float = 90.0
) -> range:
    """Send these so that they make one batch, and wait for all answers.

    Returns:
        The ids of the requests, the gates' left out.
    """
    gate = Ask("gate", f"sleep {GATE_S}")
    gates = [_single(echo, gate) for _ in range(workers)]
    for one in gates:
        await one.start(1)
        await asyncio.sleep(0.004)  # so that each leaves alone, for a worker of its own
    loops = [_single(echo, ask) for ask in asks]
    first = len(echo.ledger)
    for loop in loops:
        await loop.start(1)
    until = time.monotonic() + within_s
    while echo.ledger.open and time.monotonic() < until:
        await asyncio.sleep(0.002)
    await asyncio.gather(*(loop.finish(0.01) for loop in (*gates, *loops)))
    return range(first, len(echo.ledger))


def _single(echo: EchoServer, ask: Ask) -> ClosedLoop:
    return ClosedLoop(echo.ledger, echo.http, "echo", repeat(ask), limit=1)
