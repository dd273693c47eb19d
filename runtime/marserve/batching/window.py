"""Which waiting requests leave together, and when. Pure: time comes in as an argument.

First come, first served among the equally urgent (`line.py`), with three exceptions. What is to
be alone (`isolate`: the handler is asked to describe itself) leaves before all others, in a batch
of its own. A window that is not full may be held back for a moment if that is likely to fill it
(`reunion.py`), never longer than `delay_s` while a worker is free. And where requests have
deadlines (`deadlines.py`), a batch is no larger than the tightest of its members allows, or leaves
that one out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from marserve.batching.cap import Cap
from marserve.batching.codel import CoDel
from marserve.batching.deadlines import hopeless, members
from marserve.batching.line import Line
from marserve.batching.reunion import Reunion
from marserve.batching.service_time import ServiceTime
from marserve.request import NORMAL

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Limits:
    """The most requests of a batch, and the most seconds it is held back while a worker is free."""

    size: int
    delay_s: float
    cost: float | None = None
    """The most that the costs of a batch's requests may add up to; None: they do not count."""
    sheds: bool = False
    """Whether requests are dropped while the queue stands (`codel.py`)."""
    newest_first: bool = False
    """… and those that came last leave first as long as it does."""


class Window(Generic[Item]):
    """Requests that wait, in order. Owned by one Batcher.

    `cost_of` says what a request costs, in the unit of `limits.cost`; it is asked only where that
    is set. `rank_of` says how urgent it is, 0 the most.
    """

    def __init__(
        self,
        limits: Limits,
        cost_of: Callable[[Item], float] = lambda item: 1.0,
        rank_of: Callable[[Item], int] = lambda item: NORMAL,
    ) -> None:
        self._limits = limits
        self._may_hold = limits.size > 1 and limits.delay_s > 0.0
        self._cost_of = cost_of
        self._deadlines: dict[int, float] = {}
        """By `id` of the waiting requests that have one: few do, mostly none."""
        self.line: Line[Item] = Line(rank_of)
        self._waiting = self.line
        self._alone: deque[tuple[float, Item]] = deque()
        self._held_since: float | None = None
        self._codel = CoDel() if limits.sheds else None
        self.service = ServiceTime()
        self.cap = Cap(limits.size)
        self.held_s = 0.0
        """For how long the batch that left last was held back while a worker was free."""
        self._reunion = Reunion(limits.size, limits.delay_s, self.service)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._alone)

    def add(self, item: Item, now: float, rank: int = NORMAL) -> None:
        """Put a request at the end of those of its `rank`."""
        if rank != NORMAL or self._waiting.is_mixed:
            self._waiting.place(now, item)
        else:
            self._waiting.append((now, item))
        if self._may_hold:
            self._reunion.arrived(now)

    def has_deadlines(self) -> bool:
        """Whether any request that waits must be answered by a certain moment."""
        return bool(self._deadlines)

    def set_deadline(self, item: Item, deadline: float) -> None:
        """Note by when a waiting request must be answered, or need not be any more."""
        self._deadlines[id(item)] = deadline

    def put_back(self, items: Iterable[Item], since: float) -> None:
        """Put requests, queued at `since`, before those that came later: they left, unserved."""
        # sorted, as the workers of two batches may die in any order, and whatever looks for the
        # oldest request looks at the front
        self._waiting.put_back((since, item) for item in items)

    def isolate(self, items: Iterable[Item], since: float) -> None:
        """Let these, queued at `since`, leave before all others, each of them alone."""
        self._alone.extend((since, item) for item in items)

    def answered(self, size: int, took_s: float, now: float) -> None:
        """A batch of `size` has come back after `took_s`; what that teaches is kept."""
        if size == 0:
            return
        self.service.observe(size, took_s)
        if self._may_hold:
            self._reunion.answered(size, now)
        self.cap.went_well(size, len(self._waiting) > 0, self.service)

    def ran_out_of_memory(self, size: int) -> None:
        """A batch of `size` was too large for the memory there is."""
        self.cap.ran_out(size)

    def due_at(self, now: float, idle: int = 1) -> float | None:
        """When the next batch should leave: `now`, later, or None if nothing waits.

        `idle` (> 0) workers are free. Where that is more than one nobody is held back: whoever
        comes later finds another.
        """
        if self._alone:
            return now
        if not self._waiting:
            return None
        if idle > 1 or not self._may_hold or self._is_full():
            return now
        until = self._reunion.hold_until(len(self._waiting), now)
        if until <= now:
            return now
        if self._held_since is None:
            self._held_since = now
        until = min(until, self._held_since + self._limits.delay_s)
        if self._deadlines:
            last_s = self.service.slow_s(min(len(self._waiting) + 1, self.cap.limit))
            until = min(until, min(self._deadlines.values()) - last_s)
        return max(now, until)

    def _is_full(self) -> bool:
        size = self.cap.limit
        if len(self._waiting) >= size:
            return True
        most = self._limits.cost
        return most is not None and sum(self._cost_of(item) for _, item in self._waiting) >= most

    def take(self, now: float = 0.0) -> list[Item]:
        """The next batch, never more than the cap; empty when nothing waits."""
        if self._alone:
            return self._left([self._alone.popleft()[1]])
        self.held_s = 0.0
        if self._held_since is not None and self._waiting:
            self.held_s = max(0.0, now - max(self._held_since, self._waiting[0][0]))
        self._held_since = None
        count = min(len(self._waiting), self.cap.limit)
        if self._limits.cost is not None:
            count = self._within_cost(count, self._limits.cost)
        if self._deadlines:
            return self._within_deadlines(count, now)
        if self._codel is not None and self._limits.newest_first and self._codel.is_standing:
            return [item for _, item in self._waiting.newest(count)]
        if self._waiting.is_mixed:
            return [item for _, item in self._waiting.first(count)]
        return [self._waiting.popleft()[1] for _ in range(count)]

    def _within_cost(self, count: int, most: float) -> int:
        """How many of the first `count` cost no more than `most` together; one may always go."""
        total = 0.0
        for index in range(count):
            total += self._cost_of(self._waiting[index][1])
            if total > most:
                return max(1, index)
        return count

    def _within_deadlines(self, count: int, now: float) -> list[Item]:
        """As many of the first `count` as the deadlines among them allow."""
        first = self._waiting.first(count)
        slack_s = [self._deadlines.get(id(item), float("inf")) - now for _, item in first]
        chosen = members(slack_s, self.service)
        self._waiting.put_front([one for index, one in enumerate(first) if index not in chosen])
        return self._left([entry[1] for index, entry in enumerate(first) if index in chosen])

    def _left(self, items: list[Item]) -> list[Item]:
        """These do not wait any more."""
        if self._deadlines:
            for item in items:
                self._deadlines.pop(id(item), None)
        return items

    def drop_hopeless(self, now: float) -> list[Item]:
        """Remove and return what cannot be answered in time even if it left now, alone."""
        late = {
            key
            for key, deadline in self._deadlines.items()
            if hopeless(deadline - now, self.service)
        }
        if not late:
            return []
        dropped = [item for _, item in (*self._alone, *self._waiting) if id(item) in late]
        self._alone = deque(entry for entry in self._alone if id(entry[1]) not in late)
        self._waiting.keep([entry for entry in self._waiting if id(entry[1]) not in late])
        return self._left(dropped)

    def shed(self, now: float) -> list[Item]:
        """Remove and return what has waited too long in a queue that stands."""
        codel, size = self._codel, self.cap.limit
        if codel is None:
            return []
        if not self._waiting:
            codel.emptied()
            return []
        batch_s, slow_s = self.service.expected_s(size), self.service.slow_s(size)
        dropped = []
        line = self._waiting
        while line and codel.is_late(now - line.lowest_since(), now, batch_s, slow_s):
            dropped.append(line.pop_lowest()[1])
        return self._left(dropped)

    def take_to_join(self, room: int) -> list[Item]:
        """Up to `room` requests that may join others.

        While one waits that must be alone nobody joins, or its turn would never come.
        """
        if self._alone:
            return []
        count = min(len(self._waiting), room)
        return self._left([item for _, item in self._waiting.first(count)])

    def discard(self, item: Item) -> bool:
        """Remove a request that nobody waits for any more; False when it is not here."""
        for waiting in (self._waiting, self._alone):
            for index, entry in enumerate(waiting):
                if entry[1] is item:
                    del waiting[index]
                    self._left([item])
                    if not self._waiting:
                        self._held_since = None
                    return True
        return False

    def all_waiting(self) -> list[Item]:
        """Everything that waits, in the order of leaving; it goes on waiting."""
        return [item for _, item in (*self._alone, *self._waiting)]

    def oldest_since(self) -> float | None:
        """When the request came that has waited longest; None when nothing waits."""
        fronts = [since for since, _ in self._alone]
        oldest = self._waiting.oldest_since()
        if oldest is not None:
            fronts.append(oldest)
        return min(fronts, default=None)

    def drop_before(self, moment: float) -> list[Item]:
        """Remove and return what came at `moment` or earlier, in the order of leaving."""
        dropped = [item for since, item in self._alone if since <= moment]
        self._alone = deque(entry for entry in self._alone if entry[0] > moment)
        if self._waiting.is_mixed:
            dropped += [item for since, item in self._waiting if since <= moment]
            self._waiting.keep([entry for entry in self._waiting if entry[0] > moment])
        while self._waiting and self._waiting[0][0] <= moment:
            dropped.append(self._waiting.popleft()[1])
        return self._left(dropped)

    def take_all(self) -> list[Item]:
        """Everything that waits, in the order of leaving."""
        items = self.all_waiting()
        self._alone.clear()
        self._waiting.clear()
        self._deadlines.clear()
        self._held_since = None
        return items
