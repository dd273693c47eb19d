"""What becomes of the requests of dead workers, on the event loop.

Owns those that wait to run alone (`quarantine.py`), and what is remembered of the guilty
(`poison_memory.py`). Who has to run alone, and who gets an error, is decided in `retry.py`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from marserve.batching.poison_memory import Past, PoisonMemory
from marserve.batching.quarantine import Quarantine
from marserve.batching.retry import Fate, Loss, fate
from marserve.errors import (
    DeadlineExceeded,
    MarServeError,
    PoisonRequest,
    PoisonRequestRefused,
    WorkerDied,
)
from marserve.request import Job


@dataclass(frozen=True, slots=True)
class Lane:
    """Where suspects run."""

    place: Callable[[], str | None]
    """The worker that may have one now; None: it still has something else to do."""
    is_shared: Callable[[], bool]
    """Whether it is the only worker there is."""
    send: Callable[[str, list[Job]], None]
    release: Callable[[], None] = lambda: None
    """No suspect is left."""
    has_crowds: bool = False
    """Whether a worker has very many requests at a time, each by itself."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A request was found guilty."""

    incident: str
    """What log, event and client know it by."""
    request_id: str
    attempts: int
    cause: str
    deaths: tuple[int, ...]
    """The ends of workers that it is to blame for."""


@dataclass(frozen=True, slots=True)
class Court:
    """Who learns what happens here, and what a version's requests may be asked for."""

    version: str = ""
    is_idempotent: bool = True
    on_retried: Callable[[int, int], None] = lambda together, alone: None
    on_guilty: Callable[[Verdict], None] = lambda verdict: None


class Suspects:
    """The suspects of one version. Owned by its Batcher."""

    def __init__(self, lane: Lane, court: Court, on_change: Callable[[int, int], None]) -> None:
        """`on_change`: so many more (or fewer) wait here, and so many bytes."""
        self._lane = lane
        self._court = court
        self._on_change = on_change
        self._quarantine: Quarantine[Job] = Quarantine()
        self._memory = PoisonMemory(court.version)

    @property
    def oldest_since(self) -> float | None:
        """When the one came that has waited longest; None when none waits."""
        return self._quarantine.oldest_since()

    @property
    def are_remembered(self) -> bool:
        """Whether there is any guilty request to look out for."""
        self._memory.forget(time.monotonic())
        return bool(self._memory)

    # --- those that were found guilty before ------------------------------------------------------

    def intercept(self, job: Job) -> bool:
        """Take a newcomer, or one about to leave for a worker, if it is known to be dangerous.

        Raises:
            PoisonRequestRefused: it is not to be executed again.
        """
        past = self._memory.past(self._digest(job), time.monotonic())
        if past is Past.REFUSED:
            raise PoisonRequestRefused
        if past is Past.CLEAN:
            return False
        job.is_known_poison = True
        self._isolate(job)
        return True

    def sift(self, jobs: list[Job]) -> list[Job]:
        """Those of a batch that nothing is known of; the others are taken care of."""
        innocent = []
        for job in jobs:
            try:
                if not self.intercept(job):
                    innocent.append(job)
            except PoisonRequestRefused as error:
                job.resolve(error)
        return innocent

    def _digest(self, job: Job) -> bytes:
        """What its request is remembered by, read from the body once."""
        if job.digest is None:
            job.digest = self._memory.digest(job.request)
        return job.digest

    # --- workers that die -------------------------------------------------------------------------

    def lost(self, jobs: list[Job], loss: Loss) -> list[Job]:
        """A worker died with these; returns those that may wait again with all others."""
        was_alone = len(jobs) == 1
        fates = []
        for job in jobs:
            self._quarantine.ended(job)
            if id(job) in loss.unsent:
                job.attempts -= 1
                fates.append(Fate.ALONE if job.deaths else Fate.TOGETHER)
                continue
            job.deaths = (*job.deaths, loss.number)
            job.deaths_alone += was_alone
            fates.append(fate(job, loss, was_alone, self._court.is_idempotent))
        for job, what in zip(jobs, fates, strict=True):
            if job.is_open and what is Fate.GUILTY:
                self._convict(job, loss)
            elif job.is_open and what is Fate.GIVEN_UP:
                job.resolve(WorkerDied(f"Worker died. Attempt {job.attempts}: {loss.cause}."))
        # looked at after those answers, which may have made a client give up others
        left = [(job, what) for job, what in zip(jobs, fates, strict=True) if job.is_open]
        alone = [job for job, what in left if what is Fate.ALONE]
        crowd = [job for job in alone if self._runs_in_crowd(job)]
        self._quarantine.add_crowd([(job.queued_at, job) for job in crowd])
        for job in crowd:
            self._entered(job)
        for job in alone:
            if not self._runs_in_crowd(job):
                self._isolate(job)
        together = [job for job, what in left if what is Fate.TOGETHER]
        if left:
            self._court.on_retried(len(together), len(alone))
        self._release_if_empty()
        return together

    def _runs_in_crowd(self, job: Job) -> bool:
        """Whether it is tried with others first, as very many were with its worker."""
        return self._lane.has_crowds and job.attempts == 1

    def _convict(self, job: Job, loss: Loss) -> None:
        incident = secrets.token_hex(8)
        self._memory.convict(self._digest(job), time.monotonic())
        verdict = Verdict(incident, job.request.id, job.attempts, loss.cause, job.deaths)
        self._court.on_guilty(verdict)
        job.resolve(PoisonRequest(job.attempts, loss.cause, incident))

    def _isolate(self, job: Job) -> None:
        self._quarantine.add(job, job.queued_at)
        self._entered(job)

    def _entered(self, job: Job) -> None:
        job.on_closed = self._closed
        self._on_change(1, job.request.size_bytes)

    # --- turns ------------------------------------------------------------------------------------

    def take_turn(self, has_fresh: bool) -> None:
        """Send the next suspect, if it is its turn and its worker has nothing else to do."""
        if not self._quarantine.is_due(has_fresh, self._lane.is_shared()):
            return
        worker = self._lane.place()
        if worker is not None:
            jobs = self._quarantine.take()
            for job in jobs:
                self._left(job)
            self._lane.send(worker, jobs)

    def fresh_left(self) -> None:
        """Requests that are no suspects had a turn."""
        self._quarantine.fresh_left()

    def answered(self, jobs: list[Job]) -> None:
        """These came back. A suspect among them has done no harm."""
        for job in jobs:
            if self._quarantine.ended(job):
                if self._memory:
                    self._memory.acquit(self._digest(job))
                self._release_if_empty()

    @property
    def is_one_running(self) -> bool:
        """Whether a worker has a suspect."""
        return bool(self._quarantine.running)

    # --- the end of waiting -----------------------------------------------------------------------

    def expire(self, moment: float, error: MarServeError) -> int:
        """Answer those that came at `moment` or earlier; how many they were."""
        return self._end(self._quarantine.drop_before(moment), error)

    def fail_all(self, error: MarServeError) -> None:
        """Answer all that wait."""
        self._end(self._quarantine.take_all(), error)

    def _end(self, jobs: Iterable[Job], error: MarServeError) -> int:
        ended = list(jobs)
        for job in ended:
            self._left(job)
        for job in ended:
            job.resolve(error)
        self._release_if_empty()
        return len(ended)

    def _left(self, job: Job) -> None:
        job.on_closed = None
        self._on_change(-1, -job.request.size_bytes)

    def _closed(self, job: Job) -> None:
        """Nobody waits for this answer any more."""
        if self._quarantine.discard(job):
            self._on_change(-1, -job.request.size_bytes)
            self._release_if_empty()

    def _release_if_empty(self) -> None:
        if self._quarantine.is_empty:
            self._lane.release()


def too_late(timeout_s: float) -> DeadlineExceeded:
    """What those are told that waited as long as they may."""
    return DeadlineExceeded(f"The request waited {timeout_s:g} s for a worker (response_timeout).")
