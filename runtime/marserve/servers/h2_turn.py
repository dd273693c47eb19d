"""What connections write in one turn of the loop leaves at its end: one write for each of them."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Flushed(Protocol):
    """Something that holds back what it has to send."""

    def flush(self) -> None:
        """Send it."""


class Turn:
    """The connections of one port that have something to send."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Flushed] = []

    def add(self, one: Flushed) -> None:
        """Call its `flush` before the loop looks for anything new. Add it once."""
        if not self._waiting:
            self._loop.call_soon(self._end)
        self._waiting.append(one)

    def _end(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.flush()
