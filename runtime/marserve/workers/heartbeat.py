"""Whether workers without work would answer: a process that hangs looks like one that waits.

Every worker without a batch is asked a few times a second, by a frame that it answers between two
batches. One that does not answer is silent: it gets no work, and does not count as ready. Whatever
was given to it after the question it has not begun. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

PERIOD_S: Final = 0.4
"""From one question to the next; twice that until silence is known, which is to be within 1 s."""
WITH_WORK_S: Final = 10.0
"""After so long a silent worker that was given something is ended, so that others may do it."""


class Patient(Protocol):
    """A worker, as far as it is asked."""

    silent_since: float | None

    @property
    def may_be_asked(self) -> bool:
        """Whether it has loaded, shall go on, and has nothing to do."""
        ...

    @property
    def is_asked(self) -> bool:
        """Whether it owes an answer."""
        ...

    @property
    def in_flight(self) -> int:
        """How many batches it has."""
        ...

    def ask(self) -> None:
        """Ask it."""

    def fell_silent(self, limit_s: float) -> None:
        """It has not answered for so long that it is ended."""


class Heartbeat:
    """Asks the workers of one version.

    Args:
        workers: those there are.
        without_work_s: after so long a silent worker is ended that was given nothing.
        on_silent: called when one falls silent.
    """

    def __init__(
        self,
        workers: Callable[[], Iterable[Patient]],
        without_work_s: float,
        on_silent: Callable[[Patient], None],
    ) -> None:
        self._workers = workers
        self._without_work_s = without_work_s
        self._on_silent = on_silent
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Ask from now on."""
        if self._timer is None:
            self._timer = self._loop.call_later(PERIOD_S, self._beat)

    def stop(self) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        now = self._loop.time()
        for worker in list(self._workers()):
            if worker.is_asked:
                self._look_at(worker, now)
            elif worker.may_be_asked:
                worker.ask()
        self._timer = self._loop.call_later(PERIOD_S, self._beat)

    def _look_at(self, worker: Patient, now: float) -> None:
        if worker.silent_since is None:
            worker.silent_since = now
            self._on_silent(worker)
            return
        limit_s = self._without_work_s
        if worker.in_flight:
            limit_s = min(WITH_WORK_S, limit_s)
        if now - worker.silent_since > limit_s:
            worker.fell_silent(limit_s)
