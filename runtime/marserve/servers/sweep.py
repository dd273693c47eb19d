"""Looks after all connections of a port once a second, a few at a time. Runs on the event loop.

To look at ten thousand at once takes milliseconds, for which every request would wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Final, Generic, TypeVar

Connection = TypeVar("Connection")

EVERY_S: Final = 1.0
"""The most that a limit of time is late, give or take a slice."""
_LEAST_AT_ONCE: Final = 128
_SLICES: Final = 64
_PAUSE_S: Final = EVERY_S / _SLICES / 2


class Sweep(Generic[Connection]):
    """Owned by a port. `connections` may change meanwhile; `look` gets each, and the time."""

    def __init__(
        self, connections: Collection[Connection], look: Callable[[Connection, float], None]
    ) -> None:
        self._connections = connections
        self._look = look
        self._left: list[Connection] = []
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look from now on."""
        self._left = list(self._connections)
        self._go_on(max(_LEAST_AT_ONCE, len(self._left) // _SLICES))

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _go_on(self, at_once: int) -> None:
        now = time.monotonic()
        some, self._left = self._left[:at_once], self._left[at_once:]
        for connection in some:
            self._look(connection, now)
        loop = asyncio.get_running_loop()
        if self._left:
            self._timer = loop.call_later(_PAUSE_S, self._go_on, at_once)
        else:
            self._timer = loop.call_later(EVERY_S, self.start)
