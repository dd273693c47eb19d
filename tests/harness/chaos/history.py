"""Is a history of one register linearizable, whose writes come one after the other? Pure.

The register is what a bare model name means; a write is a change of it, a read a request for it.
Every read must have a moment between its sending and its answer at which the register held what it
got, and such that no later read goes back behind an earlier one.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Write:
    """A change. `acked_s` None: it is not known whether it was made."""

    begun_s: float
    acked_s: float | None
    value: str


@dataclass(frozen=True, slots=True)
class Read:
    """A request that was answered."""

    sent_s: float
    got_s: float
    value: str


@dataclass(frozen=True, slots=True)
class Violation:
    """A read that nothing explains."""

    rule: str
    """stale: what it got had been replaced, and that was acknowledged, before it was sent.
    early: what it got was only written after its answer. unknown: nobody ever wrote that.
    backwards: an earlier read had already seen what came later."""
    read: Read


def violations(writes: Sequence[Write], reads: Iterable[Read]) -> list[Violation]:
    """Everything that is wrong; nothing, if the history is linearizable.

    Args:
        writes: the first one is what the register held at the beginning.
        reads: in any order.

    Raises:
        ValueError: the writes overlap, which this checker is not made for.
    """
    _check_in_turn(writes)
    found: list[Violation] = []
    seen: list[tuple[float, int]] = []  # of earlier reads: when they had it, and which write
    seen_least = 0
    for read in sorted(reads, key=lambda one: one.sent_s):
        while seen and seen[0][0] < read.sent_s:
            seen_least = max(seen_least, heapq.heappop(seen)[1])
        index = _explained(writes, read, seen_least)
        if index is None:
            found.append(Violation(_rule(writes, read), read))
        else:
            heapq.heappush(seen, (read.got_s, index))
    return found


def _explained(writes: Sequence[Write], read: Read, seen_least: int) -> int | None:
    """The earliest write that the read may have seen."""
    least = max(seen_least, _last_acked(writes, read.sent_s))
    for index in range(least, len(writes)):
        if writes[index].begun_s > read.got_s:
            return None
        if writes[index].value == read.value:
            return index
    return None


def _last_acked(writes: Sequence[Write], moment_s: float) -> int:
    """The latest write that everybody must see who asks at that moment."""
    low, high = 0, len(writes)
    while low < high:
        middle = (low + high) // 2
        if writes[middle].begun_s < moment_s:
            low = middle + 1
        else:
            high = middle
    for index in range(low - 1, 0, -1):
        acked_s = writes[index].acked_s
        if acked_s is not None and acked_s < moment_s:
            return index
    return 0


def _rule(writes: Sequence[Write], read: Read) -> str:
    same = [write for write in writes if write.value == read.value]
    if not same:
        return "unknown"
    if min(write.begun_s for write in same) > read.got_s:
        return "early"
    least = _last_acked(writes, read.sent_s)
    may_be = (write for write in writes[least:] if write.begun_s <= read.got_s)
    return "backwards" if any(write.value == read.value for write in may_be) else "stale"


def _check_in_turn(writes: Sequence[Write]) -> None:
    if not writes:
        raise ValueError("a register holds something at the beginning")
    end = -math.inf
    for write in writes:
        if write.begun_s < end or (write.acked_s or math.inf) < write.begun_s:
            raise ValueError(f"{write} begins before the one before has ended")
        end = write.begun_s if write.acked_s is None else write.acked_s
