"""How late the event loop is: whatever holds it up holds up every request.

A timer is due ten times a second, and how late it comes is what a request that arrived just then
would have waited. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
from typing import Final

from marserve.observe.figures import Histogram

EVERY_S: Final = 0.1


class LoopLag:
    """Watches the running loop from `start` to `close`."""

    def __init__(self, lag: Histogram) -> None:
        """`lag` gets the seconds that each turn was late."""
        self._lag = lag
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Watch from now on."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + EVERY_S
        self._timer = loop.call_at(self._due, self._turned)

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turned(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._lag.observe(max(0.0, now - self._due))
        self._due = now + EVERY_S
        self._timer = loop.call_at(self._due, self._turned)
