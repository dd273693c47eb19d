"""Requests that may have killed their worker wait here, to run alone, one at a time. Pure.

They share a lone worker with fresh requests, turn and turn about; with several workers they have
one, and fresh requests have the others.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Quarantine(Generic[Item]):
    """The suspects of one version. Owned by its Batcher."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, Item]] = deque()
        self._had_last_turn = False
        self.running: Item | None = None
        """The suspect that a worker has now."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_empty(self) -> bool:
        """Whether no suspect waits or runs."""
        return not self._waiting and self.running is None

    def add(self, item: Item, since: float) -> None:
        """Let this one, queued at `since`, wait for its turn."""
        self._waiting.append((since, item))

    def is_due(self, has_fresh: bool, must_share: bool) -> bool:
        """Whether the next turn is a suspect's.

        Args:
            has_fresh: others wait that are no suspects.
            must_share: there is one worker for all.
        """
        if not self._waiting or self.running is not None:
            return False
        return not (must_share and has_fresh and self._had_last_turn)

    def take(self) -> Item:
        """The next suspect; it runs from now on."""
        self.running = self._waiting.popleft()[1]
        self._had_last_turn = True
        return self.running

    def fresh_left(self) -> None:
        """Others had a turn."""
        self._had_last_turn = False

    def ended(self, item: Item) -> bool:
        """A request does not run any more; False: it was no suspect that ran."""
        if item is not self.running:
            return False
        self.running = None
        return True

    def discard(self, item: Item) -> bool:
        """Remove a request that nobody waits for any more; False when it does not wait here."""
        for index, (_, waiting) in enumerate(self._waiting):
            if waiting is item:
                del self._waiting[index]
                return True
        return False

    def oldest_since(self) -> float | None:
        """When the request came that has waited longest; None when nothing waits."""
        return min((since for since, _ in self._waiting), default=None)

    def drop_before(self, moment: float) -> list[Item]:
        """Remove and return what came at `moment` or earlier."""
        dropped = [item for since, item in self._waiting if since <= moment]
        self._waiting = deque(entry for entry in self._waiting if entry[0] > moment)
        return dropped

    def take_all(self) -> list[Item]:
        """Everything that waits."""
        items = [item for _, item in self._waiting]
        self._waiting.clear()
        return items
