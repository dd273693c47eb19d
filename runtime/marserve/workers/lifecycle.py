"""How many workers a version should have, and what to do about it. Pure.

Events in, instructions out: every method takes `now` (seconds, monotonic) and returns what the
pool must do. Restart rule, for each worker by itself: the first replacement comes at once, then
after 0.5, 1, 2 … up to 30 seconds, and it never gives up; while no worker serves, they are tried
one at a time from the third failure on. An answered batch proves a worker healthy and ends its
series.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
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


@dataclass(slots=True)
class _Vacancy:
    """A worker that died: its name lives on, from `not_before` on."""

    name: str
    not_before: float


class Lifecycle:
    """Decides about the workers of one version. Owned by that version's pool."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._wanted = 0
        self._states: dict[str, State] = {}
        self._vacant: list[_Vacancy] = []
        self._failures: dict[str, int] = {}
        """Deaths and failed loads of each worker since it last proved healthy."""

    @property
    def wanted(self) -> int:
        """How many workers there should be."""
        return self._wanted

    @property
    def failures(self) -> int:
        """Failures in a row of the worker that has most of them."""
        return max(self._failures.values(), default=0)

    def states(self) -> dict[str, State]:
        """Every worker that has a process, or is about to, in order of birth."""
        return dict(self._states)

    def vacant(self) -> tuple[str, ...]:
        """Workers that died and wait for their next life, which keeps the name."""
        return tuple(vacancy.name for vacancy in self._vacant)

    def want(self, count: int, now: float, spared: Collection[str] = ()) -> list[Instruction]:
        """From now on there should be `count` workers; a new wish also ends every back-off.

        Of surplus workers, the `spared` ones are the last to go.
        """
        self._wanted = count
        self._failures.clear()
        for vacancy in self._vacant:
            vacancy.not_before = now
        return self._converge(now, spared)

    def loaded(self, worker: str, now: float) -> list[Instruction]:
        """The worker said that it is ready."""
        self._move(worker, State.READY)
        return self._converge(now)

    def proved_healthy(self, worker: str) -> None:
        """The worker answered a batch."""
        self._failures.pop(worker, None)

    def ended(self, worker: str, expected: bool, now: float) -> list[Instruction]:
        """The worker's process is gone; `expected` when it was told to."""
        self._states.pop(worker)
        if expected:
            self._failures.pop(worker, None)
        else:
            failures = self._failures[worker] = self._failures.get(worker, 0) + 1
            self._vacant.append(_Vacancy(worker, now + delay_s(failures)))
        return self._converge(now)

    def retry_s(self, worker: str, now: float) -> float | None:
        """How long until a worker that ended has its next life; None: it will have none."""
        if worker in self._states:
            return 0.0
        begins = [one.not_before for one in self._vacant if one.name == worker]
        return max(0.0, begins[0] - now) if begins else None

    def tick(self, now: float) -> list[Instruction]:
        """Time has passed."""
        return self._converge(now)

    def check(self) -> None:
        """Raise if an invariant is broken. Tests call this after every step."""
        working = [s for s in self._states.values() if s is not State.STOPPING]
        if len(working) + len(self._vacant) > self._wanted:
            raise AssertionError(
                f"{len(working)} workers run and {len(self._vacant)} wait for a next life, "
                f"{self._wanted} are wanted"
            )

    def _converge(self, now: float, spared: Collection[str] = ()) -> list[Instruction]:
        working = [w for w, state in self._states.items() if state is not State.STOPPING]
        missing = self._wanted - len(working)
        self._give_up_names(max(0, missing))
        if missing < 0:
            return self._retire(working, -missing, spared)
        instructions: list[Instruction] = []
        new = missing - len(self._vacant)
        due = [vacancy for vacancy in self._vacant if vacancy.not_before <= now]
        for vacancy in due[: self._may_try(len(due))]:
            self._vacant.remove(vacancy)
            instructions.append(self._spawn(vacancy.name))
        instructions += [self._spawn(self._new_id()) for _ in range(new)]
        later = [v.not_before for v in self._vacant if v.not_before > now]
        if later:
            instructions.append(WakeAt(min(later)))
        return instructions

    def _may_try(self, due: int) -> int:
        """How many dead workers may be tried now: one at a time while none of them can serve."""
        states = self._states.values()
        if self.failures < _CAUTIOUS_AFTER or State.READY in states:
            return due
        return 0 if State.STARTING in states else 1

    def _retire(
        self, working: list[str], surplus: int, spared: Collection[str]
    ) -> list[Instruction]:
        """Those that still load have nothing to lose; among the ready, the youngest go first."""
        starting = [w for w in working if self._states[w] is State.STARTING]
        ready = [w for w in working if self._states[w] is State.READY]
        youngest_first = starting[::-1] + ready[::-1]
        leaving = sorted(youngest_first, key=lambda worker: worker in spared)[:surplus]
        for worker in leaving:
            self._move(worker, State.STOPPING)
        return [StopWorker(worker) for worker in leaving]

    def _give_up_names(self, kept: int) -> None:
        for vacancy in self._vacant[kept:]:
            self._failures.pop(vacancy.name, None)
        del self._vacant[kept:]

    def _spawn(self, worker: str) -> SpawnWorker:
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
