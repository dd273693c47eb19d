"""Requests that may have killed their worker wait here, to run alone, one at a time. Pure.

Where very many were with a worker at once (an asynchronous handler's), they run in groups first:
n of them in √n groups, and then the members of a group that dies alone, which is √n runs more
instead of n.

They share a lone worker with fresh requests, turn and turn about; with several workers they have
one, and fresh requests have the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import ceil, sqrt
from typing import Generic, TypeVar

Item = TypeVar("Item")
_MOST_ALONE = 8
"""So many of a crowd run alone without further ado."""


class Quarantine(Generic[Item]):
    """The suspects of one version. Owned by its Batcher."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, Item, int]] = deque()
        self._groups = 0
        self._had_last_turn = False
        self.running: list[Item] = []
        """The suspects that a worker has now."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_empty(self) -> bool:
        """Whether no suspect waits or runs."""
        return not self._waiting and not self.running

    def add(self, item: Item, since: float) -> None:
        """Let this one, queued at `since`, wait for its turn."""
        self._groups += 1
        self._waiting.append((since, item, self._groups))

    def add_crowd(self, entries: Sequence[tuple[float, Item]]) -> None:
        """Let these, each with when it was queued, wait for turns in groups."""
        size = ceil(sqrt(len(entries))) if len(entries) > _MOST_ALONE else 1
        for index, (since, item) in enumerate(entries):
            self._groups += index % size == 0
            self._waiting.append((since, item, self._groups))

    def is_due(self, has_fresh: bool, must_share: bool) -> bool:
        """Whether the next turn is a suspect's.

        Args:
            has_fresh: others wait that are no suspects.
            must_share: there is one worker for all.
        """
        if not self._waiting or self.running:
            return False
        return not (must_share and has_fresh and self._had_last_turn)

    def take(self) -> list[Item]:
        """The next suspect, or group of them; they run from now on."""
        group = self._waiting[0][2]
        self.running = []
        while self._waiting and self._waiting[0][2] == group:
            self.running.append(self._waiting.popleft()[1])
        self._had_last_turn = True
        return list(self.running)

    def fresh_left(self) -> None:
        """Others had a turn."""
        self._had_last_turn = False

    def ended(self, item: Item) -> bool:
        """A request does not run any more; False: it was no suspect that ran."""
        for index, running in enumerate(self.running):
            if running is item:
                del self.running[index]
                return True
        return False

    def discard(self, item: Item) -> bool:
        """Remove a request that nobody waits for any more; False when it does not wait here."""
        for index, (_, waiting, _) in enumerate(self._waiting):
            if waiting is item:
                del self._waiting[index]
                return True
        return False

    def oldest_since(self) -> float | None:
        """When the request came that has waited longest; None when nothing waits."""
        return min((since for since, *_ in self._waiting), default=None)

    def drop_before(self, moment: float) -> list[Item]:
        """Remove and return what came at `moment` or earlier."""
        dropped = [item for since, item, _ in self._waiting if since <= moment]
        self._waiting = deque(entry for entry in self._waiting if entry[0] > moment)
        return dropped

    def take_all(self) -> list[Item]:
        """Everything that waits."""
        items = [item for _, item, _ in self._waiting]
        self._waiting.clear()
        return items
