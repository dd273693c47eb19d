"""Whether the memory of the machine allows for more requests to wait, over all versions.

Owns who takes requests at the moment. Nothing is asked per request: members are told what they may
take without asking, and told again when that changes. All methods run on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

_log = logging.getLogger("marserve.overload")
QUEUED_SHARE: Final = 0.25
"""What the bodies of all waiting requests together may take of all memory."""
LEAST_FLOOR_BYTES: Final = 32 * 1024 * 1024
_FLOOR_SHARE = 0.01
_LOOK_EVERY_S = 1.0


class Member(Protocol):
    """One version's queue."""

    @property
    def waiting_bytes(self) -> int:
        """What the bodies of its waiting requests take."""
        ...

    def allot(self, unasked_bytes: int, is_memory_low: bool) -> None:
        """Up to `unasked_bytes` it need not ask how much the others hold."""


class Headroom:
    """The memory that all versions share.

    Args:
        total_bytes: all memory there is.
        available: how much of it is left now.
        floor_bytes: with less than this left nothing is taken; None: a hundredth of all, at least
            32 MiB; 0: it does not matter.
    """

    def __init__(
        self, total_bytes: int, available: Callable[[], int], floor_bytes: int | None = None
    ) -> None:
        if floor_bytes is None:
            floor_bytes = max(LEAST_FLOOR_BYTES, int(_FLOOR_SHARE * total_bytes))
        self.floor_bytes = floor_bytes
        self.limit_bytes = int(QUEUED_SHARE * total_bytes)
        self.is_low = False
        self._available = available
        self._members: list[Member] = []
        self._unasked_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def limit_for(self, member: Member) -> int:
        """What the bodies of its waiting requests may take.

        That is what the others leave, counting what each of them may take without asking.
        """
        others = (one for one in self._members if one is not member)
        return self.limit_bytes - sum(max(one.waiting_bytes, self._unasked_bytes) for one in others)

    def join(self, member: Member) -> None:
        """A version takes requests from now on."""
        self._members.append(member)
        if self._timer is None and self.floor_bytes:
            self._look()
        self._allot()

    def leave(self, member: Member) -> None:
        """A version takes no more; harmless when it never did."""
        if member in self._members:
            self._members.remove(member)
        if not self._members and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._allot()

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_EVERY_S, self._look)
        available_bytes = self._available()
        is_low = available_bytes < self.floor_bytes
        if is_low == self.is_low:
            return
        self.is_low = is_low
        if is_low:
            _log.warning(
                "Only %d bytes of memory are available: requests are refused until it is %d again "
                "(min_available_memory).",
                available_bytes,
                self.floor_bytes,
            )
        else:
            _log.info("There is enough memory again: requests are taken.")
        self._allot()

    def _allot(self) -> None:
        """Half of an equal share is everybody's; for the other half each must ask (`limit_for`)."""
        self._unasked_bytes = self.limit_bytes // (2 * max(1, len(self._members)))
        for member in self._members:
            member.allot(self._unasked_bytes, self.is_low)
