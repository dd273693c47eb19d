"""In which order do waiting requests leave? Pure.

By class, 0 the most urgent, and in a class as they came. As long as all are of the same class,
which is nearly always, it is a plain deque, and costs what one costs. Where classes mix, one place
in twenty is for whoever waits in the lowest one, so that nobody waits for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from marserve.request import NORMAL

Item = TypeVar("Item")

RESERVED = 0.05
"""The share of all places that the lowest waiting class has for itself."""


class Line(deque[tuple[float, Item]], Generic[Item]):
    """Since when each request waits, and the request; the first leaves next. Owned by a Window.

    `rank_of` says what class a request has. `append` is only for requests of class NORMAL while
    the line is not mixed; all others come by `place`.
    """

    is_mixed = False
    """Whether requests of other classes than NORMAL may be among them."""

    def __init__(self, rank_of: Callable[[Item], int] = lambda item: NORMAL) -> None:
        super().__init__()
        self._rank_of = rank_of
        self._owed = 0.0

    def place(self, since: float, item: Item) -> None:
        """Put a request behind those of its class and before those of lower ones."""
        rank = self._rank_of(item)
        self.is_mixed = rank != NORMAL or (self.is_mixed and len(self) > 0)
        behind = []
        while self and self._rank_of(self[-1][1]) > rank:
            behind.append(self.pop())
        self.append((since, item))
        self.extend(reversed(behind))

    def put_back(self, entries: Iterable[tuple[float, Item]]) -> None:
        """Put requests where they belong by class and by age: they left, unserved."""
        returned = list(entries)
        ranks = {self._rank_of(item) for _, item in returned}
        self.is_mixed = (self.is_mixed and len(self) > 0) or bool(ranks - {NORMAL})
        key = self._place if self.is_mixed else _age
        self.keep(sorted([*returned, *self], key=key))

    def put_front(self, entries: list[tuple[float, Item]]) -> None:
        """Put those back that were taken a moment ago and are still to leave next."""
        if self.is_mixed:
            self.put_back(entries)
        else:
            self.extendleft(reversed(entries))

    def keep(self, entries: Iterable[tuple[float, Item]]) -> None:
        """From now on exactly these wait, in this order."""
        kept = list(entries)
        self.clear()
        self.extend(kept)

    def first(self, count: int) -> list[tuple[float, Item]]:
        """Take the `count` (at most all) that are to leave next."""
        if not self.is_mixed:
            return [self.popleft() for _ in range(count)]
        return [self._next() for _ in range(count)]

    def newest(self, count: int) -> list[tuple[float, Item]]:
        """Take the `count` (at most all) that came last, of the most urgent class that waits."""
        if not self.is_mixed:
            return [self.pop() for _ in range(count)][::-1]
        chosen = sorted(self, key=lambda entry: (self._rank_of(entry[1]), -entry[0]))[:count]
        gone = {id(entry[1]) for entry in chosen}
        self.keep([entry for entry in self if id(entry[1]) not in gone])
        return sorted(chosen, key=self._place)

    def _next(self) -> tuple[float, Item]:
        if self._rank_of(self[0][1]) != self._rank_of(self[-1][1]):
            self._owed += RESERVED
            if self._owed >= 1.0:
                self._owed -= 1.0
                return self.pop_lowest()
        return self.popleft()

    def pop_lowest(self) -> tuple[float, Item]:
        """Take the one that has waited longest in the lowest class that waits."""
        start = self._lowest()
        entry = self[start]
        del self[start]
        return entry

    def lowest_since(self) -> float:
        """Since when that one waits."""
        return self[self._lowest()][0]

    def _lowest(self) -> int:
        if not self.is_mixed:
            return 0
        rank, start = self._rank_of(self[-1][1]), len(self) - 1
        while start > 0 and self._rank_of(self[start - 1][1]) == rank:
            start -= 1
        return start

    def oldest_since(self) -> float | None:
        """Since when the one waits that has waited longest; None: nobody does."""
        if not self:
            return None
        return min(since for since, _ in self) if self.is_mixed else self[0][0]

    def count_before(self, rank: int) -> int:
        """How many leave before a request of this class that comes now."""
        if not self.is_mixed:
            return len(self) if rank >= NORMAL else 0
        return sum(self._rank_of(item) <= rank for _, item in self)

    def youngest(self, fits: Callable[[Item], bool]) -> Item | None:
        """The last in line that `fits`."""
        return next((item for _, item in reversed(self) if fits(item)), None)

    def _place(self, entry: tuple[float, Item]) -> tuple[int, float]:
        return self._rank_of(entry[1]), entry[0]


def _age(entry: tuple[float, object]) -> float:
    return entry[0]
