"""Who of those that wait gives way to a newcomer? Pure.

Taken only while requests are being refused. A newcomer takes the place of a less urgent request;
among equally urgent ones, of a client that has at least two places more than its own. So a client
that asks for too much displaces itself, and nobody is displaced where all have about as much.
"""

from __future__ import annotations

from collections.abc import Iterable


class Census:
    """How many places each client has, by class. Owned by one Batcher."""

    def __init__(self, waiting: Iterable[tuple[int, str]] = ()) -> None:
        """`waiting`: class and client of each request that waits."""
        self._held: dict[int, dict[str, int]] = {}
        for rank, client in waiting:
            self.entered(rank, client)

    def __len__(self) -> int:
        return sum(sum(held.values()) for held in self._held.values())

    def entered(self, rank: int, client: str) -> None:
        """A request began to wait."""
        held = self._held.setdefault(rank, {})
        held[client] = held.get(client, 0) + 1

    def left(self, rank: int, client: str) -> None:
        """A request does not wait any more."""
        held = self._held[rank]
        held[client] -= 1
        if not held[client]:
            del held[client]
            if not held:
                del self._held[rank]

    def victim(self, rank: int, client: str) -> tuple[int, str] | None:
        """Of which class and client a request gives way to one of `rank` and `client`, if any."""
        if not self._held:
            return None
        lowest = max(self._held)
        if lowest < rank:
            return None
        held = self._held[lowest]
        greedy = max(held, key=held.__getitem__)
        if lowest == rank and held[greedy] < held.get(client, 0) + 2:
            return None
        return lowest, greedy
