"""How many workers a version should have, and what to do about it. Pure.

Events in, instructions out: every method takes `now` (seconds, monotonic) and returns what the
pool must do. Restart rule: the first replacement comes at once, then after 0.5, 1, 2 … up to 30
seconds, one at a time from the third failure on, and it never gives up. An answered batch proves
a worker healthy and ends the series.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

_FIRST_DELAY_S = 0.5
_MAX_DELAY_S = 30.0
_CAUTIOUS_AFTER = 3
"""From so many failures in a row, a single worker is tried before the others."""


class State(Enum):
    """The life of one worker; it leaves the table when its process has ended."""

    STARTING = auto()
    READY = auto()
    STOPPING = auto()


LEGAL: dict[State, frozenset[State]] = {
    State.STARTING: frozenset({State.READY, State.STOPPING}),
    State.READY: frozenset({State.STOPPING}),
    State.STOPPING: frozenset(),
}


@dataclass(frozen=True, slots=True)
class SpawnWorker:
    """Start a process and let it load the model."""

    worker: str


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Let it finish what it runs, then end it."""

    worker: str


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Call `tick` at this moment."""

    when: float


Instruction: TypeAlias = SpawnWorker | StopWorker | WakeAt


class IllegalTransition(Exception):
    """A worker was said to have gone where it cannot go."""

    def __init__(self, worker: str, state: State | None, wanted: State) -> None:
        super().__init__(f"worker {worker} cannot go from {state} to {wanted}")


class Lifecycle:
    """Decides about the workers of one version. Owned by that version's pool."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._wanted = 0
        self._states: dict[str, State] = {}
        self._vacant: list[str] = []
        self._failures = 0
        self._not_before = 0.0

    @property
    def wanted(self) -> int:
        """How many workers there should be."""
        return self._wanted

    @property
    def failures(self) -> int:
        """Deaths and failed loads since a worker last proved healthy."""
        return self._failures

    def states(self) -> dict[str, State]:
        """Every worker that has a process, or is about to, in order of birth."""
        return dict(self._states)

    def vacant(self) -> tuple[str, ...]:
        """Workers that died and wait for their next life, which keeps the name."""
        return tuple(self._vacant)

    def want(self, count: int, now: float) -> list[Instruction]:
        """From now on there should be `count` workers; a new wish also ends a back-off."""
        self._wanted = count
        self._failures = 0
        self._not_before = now
        return self._converge(now)

    def loaded(self, worker: str, now: float) -> list[Instruction]:
        """The worker said that it is ready."""
        self._move(worker, State.READY)
        return self._converge(now)

    def proved_healthy(self) -> None:
        """A worker answered a batch."""
        self._failures = 0

    def stopping(self, worker: str) -> None:
        """The pool ends this worker for a reason of its own (it hangs, it broke the protocol)."""
        if self._states.get(worker) is not State.STOPPING:
            self._move(worker, State.STOPPING)

    def ended(self, worker: str, expected: bool, now: float) -> list[Instruction]:
        """The worker's process is gone; `expected` when it was told to."""
        self._states.pop(worker)
        if not expected:
            self._vacant.append(worker)
            self._failures += 1
            self._not_before = now + delay_s(self._failures)
        return self._converge(now)

    def tick(self, now: float) -> list[Instruction]:
        """Time has passed."""
        return self._converge(now)

    def check(self) -> None:
        """Raise if an invariant is broken. Tests call this after every step."""
        working = [s for s in self._states.values() if s is not State.STOPPING]
        if len(working) > self._wanted:
            raise AssertionError(f"{len(working)} workers run, {self._wanted} are wanted")

    def _converge(self, now: float) -> list[Instruction]:
        working = [w for w, state in self._states.items() if state is not State.STOPPING]
        surplus = len(working) - self._wanted
        if surplus > 0:
            # Those that still load have nothing to lose; among the ready, the youngest go first.
            starting = [w for w in working if self._states[w] is State.STARTING]
            ready = [w for w in working if self._states[w] is State.READY]
            leaving = (starting[::-1] + ready[::-1])[:surplus]
            self._vacant.clear()
            for worker in leaving:
                self._move(worker, State.STOPPING)
            return [StopWorker(worker) for worker in leaving]
        missing = -surplus
        del self._vacant[missing:]
        if missing == 0:
            return []
        if now < self._not_before:
            return [WakeAt(self._not_before)]
        if self._failures >= _CAUTIOUS_AFTER:
            is_trying = State.STARTING in self._states.values()
            missing = 0 if is_trying else 1
        return [self._spawn() for _ in range(missing)]

    def _spawn(self) -> SpawnWorker:
        worker = self._vacant.pop(0) if self._vacant else self._new_id()
        self._states[worker] = State.STARTING
        return SpawnWorker(worker)

    def _move(self, worker: str, state: State) -> None:
        current = self._states.get(worker)
        if current is None or state not in LEGAL[current]:
            raise IllegalTransition(worker, current, state)
        self._states[worker] = state


def delay_s(failures: int) -> float:
    """How long to wait before the next attempt after `failures` failures in a row."""
    if failures <= 1:
        return 0.0
    # it never gives up, so the exponent must not grow for ever: 2.0 ** 1024 is an OverflowError
    return min(_MAX_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(failures - 2, 10))
