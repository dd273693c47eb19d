"""How many workers a version should have, and what to do about it. Pure.

Events in, instructions out: every method takes `now` (seconds, monotonic) and returns what the
pool must do. When a worker that died is tried again is decided in `restarts.py`, for each worker by
itself, and it never gives up; while no worker serves, they are tried one at a time from the third
failure on. An answered batch proves a worker healthy and ends its series. A worn worker leaves when
its successor is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from marserve.workers.causes import Ending
from marserve.workers.restarts import PROBE_EVERY_S, Restarts, Standing, delay_s

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

    def __init__(self, new_id: Callable[[], str], most: int | None = None) -> None:
        """`most`: so many workers can exist at a time, and no more; None: any number."""
        self._new_id = new_id
        self._most = most
        self._wanted = 0
        self._states: dict[str, State] = {}
        self._vacant: list[_Vacancy] = []
        self._failures: dict[str, int] = {}
        """Deaths and failed loads of each worker since it last proved healthy."""
        self._restarts = Restarts()
        self._ready_since: dict[str, float] = {}
        self._worn: list[str] = []
        """Workers that are to be replaced, one after another."""
        self._making_room: str | None = None
        """A worn worker whose successor can only start when it has ended."""

    @property
    def wanted(self) -> int:
        """How many workers there should be."""
        return self._wanted

    @property
    def failures(self) -> int:
        """Failures in a row of the worker that has most of them."""
        return max(self._failures.values(), default=0)

    @property
    def standing(self) -> Standing:
        """Whether the version's workers keep dying, or cannot load."""
        return self._restarts.standing

    @property
    def is_recycling(self) -> bool:
        """Whether a worn worker is being replaced."""
        return bool(self._worn) or self._making_room is not None

    def probe_in_s(self, now: float) -> float:
        """How long until a version that is not sound gets another worker."""
        return max(0.0, self._restarts.next_probe_at - now)

    def states(self) -> dict[str, State]:
        """Every worker that has a process, or is about to, in order of birth."""
        return dict(self._states)

    def vacant(self) -> tuple[str, ...]:
        """Workers that died and wait for their next life, which keeps the name."""
        return tuple(vacancy.name for vacancy in self._vacant)

    def want(
        self, count: int, now: float, spared: Collection[str] = (), *, forgive: bool = True
    ) -> list[Instruction]:
        """From now on there should be `count` workers.

        Of surplus workers, the `spared` ones are the last to go. A wish of an operator's also
        ends every back-off (`forgive`).
        """
        self._wanted = count
        if forgive:
            self._failures.clear()
            self._restarts.succeeded()
            for vacancy in self._vacant:
                vacancy.not_before = now
        return self._converge(now, spared)

    def loaded(self, worker: str, now: float) -> list[Instruction]:
        """The worker said that it is ready."""
        self._move(worker, State.READY)
        self._ready_since[worker] = now
        self._restarts.loaded()
        return self._converge(now)

    def proved_healthy(self, worker: str, now: float) -> list[Instruction]:
        """The worker answered a batch."""
        self._failures.pop(worker, None)
        was = self._restarts.standing
        self._restarts.succeeded()
        return [] if was is Standing.SOUND else self._converge(now)

    def ended(
        self, worker: str, ending: Ending, now: float, roll: float = 1.0
    ) -> list[Instruction]:
        """The worker's process is gone; `roll` (0 to 1) is chance's part in how long to wait."""
        self._states.pop(worker)
        self._ready_since.pop(worker, None)
        if worker in self._worn:
            self._worn.remove(worker)
        if worker == self._making_room:
            self._making_room = None
        if ending.is_expected:
            self._failures.pop(worker, None)
        elif ending.is_of_trial:  # there is an end to those: it is not made to wait
            self._vacant.append(_Vacancy(worker, now))
        else:
            failures = self._failures[worker] = self._failures.get(worker, 0) + 1
            self._vacant.append(_Vacancy(worker, now + delay_s(failures, roll)))
            self._restarts.died(ending, now)
        return self._converge(now)

    def explained(self, workers: Iterable[str], now: float) -> list[Instruction]:
        """These workers ended through the fault of a request: nobody need wait for them."""
        names = set(workers)
        for name in names:
            self._failures.pop(name, None)
        for vacancy in self._vacant:
            if vacancy.name in names:
                vacancy.not_before = now
        return self._converge(now)

    def recycle(self, worker: str, now: float) -> list[Instruction]:
        """The worker is worn: its successor first, where there may be one more, then it goes."""
        if self._states.get(worker) is not State.READY or worker in self._worn:
            return []
        self._worn.append(worker)
        return self._converge(now)

    def retry_s(self, worker: str, now: float) -> float | None:
        """How long until a worker that ended has its next life; None: it will have none."""
        if worker in self._states:
            return 0.0
        begins = [one.not_before for one in self._vacant if one.name == worker]
        if not begins:
            return None
        if self.standing is not Standing.SOUND:
            return self.probe_in_s(now)
        return max(0.0, begins[0] - now)

    def tick(self, now: float) -> list[Instruction]:
        """Time has passed."""
        if self.standing is Standing.CRASH_LOOP:
            begun = self._restarts.suspended_at
            lived_s = (now - max(begun, since) for since in self._ready_since.values())
            if any(lived >= PROBE_EVERY_S for lived in lived_s):
                self._restarts.succeeded()  # nobody asked it anything; it has lived, at least
        return self._converge(now)

    def check(self) -> None:
        """Raise if an invariant is broken. Tests call this after every step."""
        working = [s for s in self._states.values() if s is not State.STOPPING]
        most = self._wanted + (1 if self._worn else 0)
        if len(working) + len(self._vacant) > most:
            raise AssertionError(
                f"{len(working)} workers run and {len(self._vacant)} wait for a next life, "
                f"{self._wanted} are wanted"
            )

    def _converge(self, now: float, spared: Collection[str] = ()) -> list[Instruction]:
        working = [w for w, state in self._states.items() if state is not State.STOPPING]
        worn = self._next_worn()
        staying = len(working) - (worn is not None)
        missing = self._wanted - staying - (self._making_room is not None)
        self._give_up_names(max(0, missing))
        if missing < 0:
            leaving = self._leaving(working, len(working) - self._wanted, spared)
            return self._stop(leaving)
        if worn is not None and self._may_go(worn, missing):
            self._worn.remove(worn)
            if missing:
                self._making_room = worn
            return [*self._stop([worn]), *self._converge(now)]
        return self._start(missing, now)

    def _next_worn(self) -> str | None:
        """The worker that is being replaced; one at a time."""
        self._worn = [name for name in self._worn if self._states.get(name) is State.READY]
        return self._worn[0] if self._worn else None

    def _may_go(self, worn: str, missing: int) -> bool:
        """Whether those that stay are all ready; or there cannot be one more than there are."""
        if missing:
            return (
                missing == 1
                and not self._vacant
                and self._most is not None
                and (len(self._states) >= self._most)
            )
        staying = [s for name, s in self._states.items() if name != worn]
        return State.STARTING not in staying

    def _start(self, missing: int, now: float) -> list[Instruction]:
        if self.standing is not Standing.SOUND:
            return self._probe(missing, now)
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

    def _probe(self, missing: int, now: float) -> list[Instruction]:
        """One worker at most, when it is time again; look again in any case."""
        instructions: list[Instruction] = []
        states = self._states.values()
        is_tried = State.STARTING in states or State.READY in states
        if missing and now >= self._restarts.next_probe_at:
            may_be_one_of_many = self.standing is Standing.LOAD_FAILED
            if State.STARTING not in states and (may_be_one_of_many or State.READY not in states):
                name = self._vacant.pop(0).name if self._vacant else self._new_id()
                instructions.append(self._spawn(name))
            self._restarts.probed(now)
        if missing or is_tried:
            when = self._restarts.next_probe_at
            instructions.append(WakeAt(when if when > now else now + PROBE_EVERY_S))
        return instructions

    def _may_try(self, due: int) -> int:
        """How many dead workers may be tried now: one at a time while none of them can serve."""
        states = self._states.values()
        if self.failures < _CAUTIOUS_AFTER or State.READY in states:
            return due
        return 0 if State.STARTING in states else 1

    def _leaving(self, working: list[str], surplus: int, spared: Collection[str]) -> list[str]:
        """Those that still load have nothing to lose; the worn go, then the youngest."""
        starting = [w for w in working if self._states[w] is State.STARTING]
        ready = [w for w in working if self._states[w] is State.READY]
        youngest_first = starting[::-1] + ready[::-1]
        ordered = sorted(
            youngest_first, key=lambda worker: (worker not in self._worn, worker in spared)
        )
        return ordered[:surplus]

    def _stop(self, leaving: list[str]) -> list[Instruction]:
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
