"""Whether changes of models are taken now, and which are under way.

Shut while another server process takes over, which must find what is wanted as it will stay; open
again if that comes to nothing. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from marserve.errors import ShuttingDown


class ChangeGate:
    """Every change passes through it: `with gate.passed(): …`."""

    def __init__(self) -> None:
        self._why_shut: str | None = None
        self._under_way = 0
        self._emptied = asyncio.Event()

    @contextmanager
    def passed(self) -> Iterator[None]:
        """One change, from its beginning to its end.

        Raises:
            ShuttingDown: none is taken now; the message says why.
        """
        if self._why_shut is not None:
            raise ShuttingDown(self._why_shut)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._emptied.set()

    async def shut(self, why: str, timeout_s: float) -> bool:
        """Take no new change, and wait for those under way. False: some take longer than that."""
        self._why_shut = why
        self._emptied.clear()
        if not self._under_way:
            return True
        try:
            await asyncio.wait_for(self._emptied.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def reopen(self) -> None:
        """Take changes again."""
        self._why_shut = None
