"""Requests of sequences: which worker each belongs to, and which may run now. Pure.

A sequence is a conversation with one worker: its requests run there, strictly one after another.
It is opened by its first request, bound to the first worker with room that takes one of them, and
over when nobody has used it for `idle_s`, or `total_s` after its beginning (0: no such limit), or
when the handler says so. The next request of its name opens a new one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True, slots=True)
class SequenceLimits:
    """How many sequences, how many waiting requests of each, and how long they live."""

    sequences: int
    per_worker: int
    """How many one worker may have at a time."""
    waiting: int
    """How many requests of one sequence may wait."""
    idle_s: float
    total_s: float


@dataclass(slots=True)
class _Sequence(Generic[Item]):
    opened_at: float
    used_at: float
    worker: str | None = None
    running: Item | None = None
    is_over: bool = False
    """The handler has said so while its last request ran."""
    waiting: deque[tuple[float, Item]] = field(default_factory=deque)


class Sequences(Generic[Item]):
    """Owns the open sequences of one version and their waiting requests."""

    def __init__(self, limits: SequenceLimits) -> None:
        self._limits = limits
        self._open: dict[str, _Sequence[Item]] = {}
        self._names: dict[Item, str] = {}

    def __len__(self) -> int:
        """How many requests wait."""
        return sum(len(sequence.waiting) for sequence in self._open.values())

    @property
    def count(self) -> int:
        """How many sequences are open."""
        return len(self._open)

    def offer(self, name: str, item: Item, now: float) -> str | None:
        """Let a request wait for its turn; a reason when it cannot."""
        self._expire(now)
        sequence = self._open.get(name)
        if sequence is None:
            if len(self._open) >= self._limits.sequences:
                return f"{len(self._open)} sequences are open, which is all (maxNumSequence)"
            sequence = self._open[name] = _Sequence(now, now)
        if len(sequence.waiting) >= self._limits.waiting:
            return (
                f"the sequence {name} has {len(sequence.waiting)} requests waiting, which is all "
                "(maxSequenceJobQueueSize)"
            )
        sequence.waiting.append((now, item))
        self._names[item] = name
        return None

    def share(self, per_worker: int) -> None:
        """From now on a worker may have so many sequences; those it has, it keeps."""
        self._limits = replace(self._limits, per_worker=per_worker)

    def workers(self, now: float) -> set[str]:
        """The workers that keep the state of an open sequence."""
        self._expire(now)
        return {one.worker for one in self._open.values() if one.worker is not None}

    def oldest_unbound(self) -> float | None:
        """Since when a sequence has waited for a worker of its own; None when none does."""
        fronts = (
            sequence.waiting[0][0]
            for sequence in self._open.values()
            if sequence.waiting and sequence.worker is None
        )
        return min(fronts, default=None)

    def take(self, worker: str, room: int, now: float) -> list[Item]:
        """Up to `room` requests for this worker, of different sequences, oldest first."""
        self._expire(now)
        bound = sum(sequence.worker == worker for sequence in self._open.values())
        ready = sorted(
            (
                sequence
                for sequence in self._open.values()
                if sequence.waiting
                and sequence.running is None
                and sequence.worker in (worker, None)
            ),
            key=lambda sequence: sequence.waiting[0][0],
        )
        taken: list[Item] = []
        for sequence in ready:
            if len(taken) >= room:
                break
            if sequence.worker is None:
                if bound >= self._limits.per_worker:
                    continue
                sequence.worker = worker
                bound += 1
            _, item = sequence.waiting.popleft()
            sequence.running = item
            sequence.used_at = now
            taken.append(item)
        return taken

    def finished(self, item: Item, now: float) -> None:
        """A request has its answer; the next of its sequence may run. It was in use until now."""
        name = self._names.pop(item, None)
        sequence = self._open.get(name) if name is not None else None
        if sequence is not None and sequence.running is item:
            sequence.running = None
            if not sequence.is_over:
                sequence.used_at = now

    def drop(self, item: Item) -> bool:
        """Forget a waiting request; False when it does not wait."""
        name = self._names.get(item)
        sequence = self._open.get(name) if name is not None else None
        if sequence is None:
            return False
        for entry in sequence.waiting:
            if entry[1] is item:
                sequence.waiting.remove(entry)
                del self._names[item]
                return True
        return False

    def end(self, name: str) -> None:
        """The handler says that this one is over. What waits begins it anew, anywhere."""
        sequence = self._open.get(name)
        if sequence is None:
            return
        if sequence.waiting:
            sequence.worker = None
            sequence.is_over = False
        elif sequence.running is None:
            del self._open[name]
        else:
            sequence.is_over = True  # as soon as its last request is answered

    def worker_gone(self, worker: str) -> list[Item]:
        """A worker ended, and the state of its sequences with it; returns what waited for it."""
        lost: list[Item] = []
        for name, sequence in list(self._open.items()):
            if sequence.worker == worker:
                lost += [item for _, item in sequence.waiting]
                del self._open[name]
        for item in lost:
            self._names.pop(item, None)
        return lost

    def take_all(self) -> list[Item]:
        """Everything that waits; all sequences are over."""
        items = [item for sequence in self._open.values() for _, item in sequence.waiting]
        for item in items:
            self._names.pop(item, None)
        self._open.clear()
        return items

    def _expire(self, now: float) -> None:
        limits = self._limits
        for name, sequence in list(self._open.items()):
            if sequence.running is not None:
                continue
            is_old = 0 < limits.total_s <= now - sequence.opened_at
            if sequence.waiting:
                if (is_old or sequence.is_over) and sequence.worker is not None:
                    sequence.worker, sequence.opened_at, sequence.is_over = None, now, False
            elif is_old or sequence.is_over or now - sequence.used_at > limits.idle_s:
                del self._open[name]
