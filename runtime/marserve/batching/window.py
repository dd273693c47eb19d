"""Which waiting requests leave together, and when. Pure: time comes in as an argument.

First come, first served, with two exceptions. A suspect (a request whose worker died while it
ran) leaves alone, so that it can harm nobody but itself. And a window that is not full may be
held back for a moment if that is likely to fill it (`reunion.py`), never longer than `delay_s`
after its oldest request came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Generic, TypeVar

from marserve.batching.reunion import Reunion

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Limits:
    """The most requests of a batch, and the most seconds that its oldest may be held back."""

    size: int
    delay_s: float


class Window(Generic[Item]):
    """Requests that wait, in order. Owned by one Batcher."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: deque[tuple[float, Item]] = deque()
        self._suspects: deque[tuple[float, Item]] = deque()
        self._reunion = Reunion(limits.size, limits.delay_s)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._suspects)

    def add(self, item: Item, now: float) -> None:
        """Put a request at the end."""
        self._waiting.append((now, item))
        self._reunion.arrived(now)

    def put_back(self, items: Iterable[Item], since: float) -> None:
        """Put requests, queued at `since`, before those that came later: they left, unserved."""
        # sorted, as the workers of two batches may die in any order, and whatever looks for the
        # oldest request looks at the front
        returned = [(since, item) for item in items]
        self._waiting = deque(sorted([*returned, *self._waiting], key=itemgetter(0)))

    def isolate(self, items: Iterable[Item], since: float) -> None:
        """Let these, queued at `since`, leave before all others, each of them alone."""
        self._suspects.extend((since, item) for item in items)

    def answered(self, size: int, took_s: float, now: float) -> None:
        """A batch of `size` has come back after `took_s`; what that teaches is kept."""
        self._reunion.answered(size, took_s, now)

    def due_at(self, now: float) -> float | None:
        """When the next batch should leave if a worker is free: `now`, later, or None if empty."""
        if self._suspects:
            return now
        if not self._waiting:
            return None
        if len(self._waiting) >= self._limits.size:
            return now
        latest = self._waiting[0][0] + self._limits.delay_s
        return max(now, min(latest, self._reunion.hold_until(len(self._waiting), now)))

    def suspect(self) -> Item | None:
        """The request that leaves next, if that is a suspect."""
        return self._suspects[0][1] if self._suspects else None

    def take(self) -> list[Item]:
        """The next batch, never more than `limits.size`; empty when nothing waits."""
        if self._suspects:
            return [self._suspects.popleft()[1]]
        count = min(len(self._waiting), self._limits.size)
        return [self._waiting.popleft()[1] for _ in range(count)]

    def take_to_join(self, room: int) -> list[Item]:
        """Up to `room` requests that may join others.

        A suspect must be alone. While one waits nobody joins, or its turn would never come.
        """
        if self._suspects:
            return []
        return [self._waiting.popleft()[1] for _ in range(min(len(self._waiting), room))]

    def discard(self, item: Item) -> bool:
        """Remove a request that nobody waits for any more; False when it is not here."""
        for waiting in (self._waiting, self._suspects):
            for index, entry in enumerate(waiting):
                if entry[1] is item:
                    del waiting[index]
                    return True
        return False

    def oldest_since(self) -> float | None:
        """When the request came that has waited longest; None when nothing waits."""
        fronts = [since for since, _ in self._suspects]
        if self._waiting:
            fronts.append(self._waiting[0][0])
        return min(fronts, default=None)

    def drop_before(self, moment: float) -> list[Item]:
        """Remove and return what came at `moment` or earlier, suspects first."""
        dropped = [item for since, item in self._suspects if since <= moment]
        self._suspects = deque(entry for entry in self._suspects if entry[0] > moment)
        while self._waiting and self._waiting[0][0] <= moment:
            dropped.append(self._waiting.popleft()[1])
        return dropped

    def take_all(self) -> list[Item]:
        """Everything that waits, suspects first."""
        items = [item for _, item in (*self._suspects, *self._waiting)]
        self._suspects.clear()
        self._waiting.clear()
        return items
