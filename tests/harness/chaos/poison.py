"""Batches with poison in them: one moment at which n requests wait, and what becomes of each.

A gate holds the one worker busy while the requests of a batch arrive, so they leave together.
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


async def batch(echo: EchoServer, asks: Sequence[Ask], within_s: float = 60.0) -> None:
    """Send these so that they make one batch, and wait for all answers."""
    loops = [ClosedLoop(echo.ledger, echo.http, "echo", repeat(ask), limit=1) for ask in asks]
    gate = Ask("gate", f"sleep {GATE_S}")
    opening = ClosedLoop(echo.ledger, echo.http, "echo", repeat(gate), limit=1)
    await opening.start(1)
    await asyncio.gather(*(loop.start(1) for loop in loops))
    until = time.monotonic() + within_s
    while echo.ledger.open and time.monotonic() < until:
        await asyncio.sleep(0.002)
    await asyncio.gather(*(loop.finish(0.01) for loop in (opening, *loops)))
