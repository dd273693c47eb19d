"""How many connections there may be, in all and from one client, and who makes room for whom.

When all places are taken, those who have been idle longest leave; a newcomer is turned away only if
nobody is idle. Pure: the time is an argument.
"""

from __future__ import annotations

import logging
from typing import Final, Protocol

_log = logging.getLogger("marserve.servers")

_SHARE_LEAVING: Final = 32
"""Of so many idle connections one leaves at a time: looking through all of them is dear."""
_BLIND_S: Final = 0.5
"""So long nobody is looked for again after nobody was idle."""
_WARN_S: Final = 60.0


class Guest(Protocol):
    """A connection."""

    @property
    def is_idle(self) -> bool:
        """Whether its client waits for nothing, and has begun nothing."""
        ...

    @property
    def quiet_since(self) -> float:
        """When something was heard of it last."""
        ...

    def make_room(self) -> None:
        """End, as far as the client is concerned without a reason."""


class Room:
    """Of one process. Owned by its ports; used on the loop alone.

    Args:
        most: connections at one time.
        most_per_peer: from one address; None: any number.
    """

    def __init__(self, most: int, most_per_peer: int | None = None) -> None:
        self._most = most
        self._most_per_peer = most_per_peer
        self._guests: dict[Guest, str] = {}
        self._by_peer: dict[str, int] = {}
        self._looked_at = self._warned_at = float("-inf")
        self.turned_away = 0
        """How many connections were."""

    def __len__(self) -> int:
        return len(self._guests)

    def enter(self, guest: Guest, peer: str, now: float) -> bool:
        """Take a place; False: there is none."""
        by_peer = self._by_peer.get(peer, 0)
        is_too_many = self._most_per_peer is not None and by_peer >= self._most_per_peer
        if is_too_many or (len(self._guests) >= self._most and not self._clear(now)):
            self.turned_away += 1
            return False
        self._guests[guest] = peer
        if self._most_per_peer is not None:
            self._by_peer[peer] = self._by_peer.get(peer, 0) + 1
        return True

    def leave(self, guest: Guest) -> None:
        """Give the place back; whoever has none may say so, too."""
        peer = self._guests.pop(guest, None)
        if peer is None or self._most_per_peer is None:
            return
        left = self._by_peer[peer] - 1
        if left:
            self._by_peer[peer] = left
        else:
            del self._by_peer[peer]

    def _clear(self, now: float) -> bool:
        """Have some of the idle leave, those first who have been idle longest."""
        if now - self._warned_at > _WARN_S:
            self._warned_at = now
            _log.warning("All %d connections are taken (max_connections).", self._most)
        if now - self._looked_at < _BLIND_S:
            return False
        idle = sorted((one for one in self._guests if one.is_idle), key=lambda one: one.quiet_since)
        for one in idle[: len(idle) // _SHARE_LEAVING + 1]:
            self.leave(one)
            one.make_room()
        if not idle:
            self._looked_at = now
        return bool(idle)
