"""Trouble with a seed: signals to workers at planned moments, each kept with its time.

The plan (moments, victims' ranks, ways) follows from the seed alone, so a run can be repeated;
which pid a rank means is looked up when its moment has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

Pids = Callable[[], Awaitable[Sequence[int]]]
_FREEZE_S = (0.002, 0.06)


@dataclass(frozen=True, slots=True)
class Way:
    """How a worker is hurt."""

    name: str
    number: int
    freeze_first: bool = False
    """Stopped for some milliseconds before: whatever is sent to it meanwhile stays in its socket,
    whatever it was sending is cut in the middle."""
    resumes_after_s: float | None = None
    """Let go on after so long."""


KILL = Way("kill", signal.SIGKILL)
KILL_FROZEN = Way("kill while frozen", signal.SIGKILL, freeze_first=True)
SEGV = Way("SIGSEGV", signal.SIGSEGV)
ABRT = Way("SIGABRT", signal.SIGABRT)
BUS = Way("SIGBUS", signal.SIGBUS)
ILL = Way("SIGILL", signal.SIGILL)
STOP = Way("stop", signal.SIGSTOP)


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault to come."""

    after_s: float
    """Since the fault before."""
    rank: float
    """Which of the workers that there are, from 0 to 1."""
    way: Way
    freeze_s: float


@dataclass(frozen=True, slots=True)
class Done:
    """One fault that happened, at `at_s` of the monotonic clock."""

    at_s: float
    pid: int
    way: str


def plan(seed: int, per_s: float, ways: Sequence[Way]) -> Iterator[Planned]:
    """The faults of a seed, for ever, about `per_s` a second."""
    rng = random.Random(seed)
    while True:
        yield Planned(
            rng.uniform(0.5, 1.5) / per_s, rng.random(), rng.choice(ways), rng.uniform(*_FREEZE_S)
        )


class FaultDriver:
    """Carries a plan out. `done` is its log."""

    def __init__(self, faults: Iterator[Planned], pids: Pids) -> None:
        self.done: list[Done] = []
        self._faults = faults
        self._pids = pids
        self._hurt: set[int] = set()

    async def run(self, count: int, is_over: Callable[[], bool] = lambda: False) -> None:
        """Do `count` faults, or fewer if it is over before."""
        while len(self.done) < count and not is_over():
            fault = next(self._faults)
            await asyncio.sleep(fault.after_s)
            pids = [pid for pid in await self._pids() if pid not in self._hurt]
            if pids:
                await self._do(fault, pids[int(fault.rank * len(pids))])

    async def _do(self, fault: Planned, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if fault.way.freeze_first:
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(fault.freeze_s)
            at_s = time.monotonic()
            os.kill(pid, fault.way.number)
            self._hurt.add(pid)
            self.done.append(Done(at_s, pid, fault.way.name))
            if fault.way.resumes_after_s is not None:
                await asyncio.sleep(fault.way.resumes_after_s)
                os.kill(pid, signal.SIGCONT)
