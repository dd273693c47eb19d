"""Drives a window on the event loop: a batch is formed at the moment a worker is free.

Owns the requests of one version while they wait. `send` and `has_idle` are handed in: this module
knows nothing of workers. Requests that arrive in the same turn of the loop leave together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from marserve.batching.window import Limits, Window
from marserve.errors import DeadlineExceeded, MarServeError, WorkerDied
from marserve.request import Job

_MAX_ATTEMPTS = 3
_GATHER_S = 0.0003
"""For so long, requests are read that are there already, before a free worker gets a batch."""


class Learned(NamedTuple):
    """A batch of n requests takes about `fixed_s + each_s · n`, and n is at most `limit`."""

    fixed_s: float
    each_s: float
    limit: int


class Batcher:
    """The queue of one version. All methods run on the event loop."""

    def __init__(
        self,
        limits: Limits,
        timeout_s: float,
        has_idle: Callable[[], bool],
        send: Callable[[list[Job]], None],
        on_depth: Callable[[int], None],
        has_quiet: Callable[[], bool] | None = None,
        idle: Callable[[], int] = lambda: 1,
        on_late: Callable[[int], None] = lambda count: None,
    ) -> None:
        """`has_quiet`: a worker runs nothing at all; None: whoever is idle is quiet.

        `idle`: how many workers are; asked only while one is. `on_late`: so many were answered
        with DeadlineExceeded while they waited.
        """
        self._limits = limits
        self._timeout_s = timeout_s
        self._has_idle = has_idle
        self._has_quiet = has_quiet
        self._idle = idle
        self._on_late = on_late
        self._send = send
        self._on_depth = on_depth
        self._loop = asyncio.get_running_loop()
        self._window: Window[Job] = Window(limits, _cost_bytes)
        self._pump_is_planned = False
        self._gathered = -1
        self._gather_until = 0.0
        self._held: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self.waiting_bytes = 0

    @property
    def depth(self) -> int:
        """How many requests wait."""
        return len(self._window)

    @property
    def oldest_since(self) -> float | None:
        """When the request came that has waited longest; None when nothing waits."""
        return self._window.oldest_since()

    def submit(self, job: Job) -> None:
        """Put an admitted request into the queue."""
        self._window.add(job, job.queued_at)
        job.on_closed = self._closed
        self.waiting_bytes += job.request.size_bytes
        self._watch(job.queued_at)
        if job.deadline is not None:
            self._limit(job, job.deadline)
        if self._has_idle():
            self.wake()
        else:
            self._on_depth(len(self._window))

    def submit_alone(self, job: Job) -> None:
        """Put a request before all others; it leaves in a batch of its own."""
        self._window.isolate((job,), job.queued_at)
        job.on_closed = self._closed
        self.waiting_bytes += job.request.size_bytes
        self._watch(job.queued_at)
        self.wake()

    def _limit(self, job: Job, deadline: float) -> None:
        """See to it that a client with a deadline has an answer by then, wherever its job is."""
        self._window.set_deadline(job, deadline)
        if job.time_limit is None:
            job.time_limit = self._loop.call_at(deadline, _ran_out, job)

    def wake(self) -> None:
        """A worker may be free: look, as soon as no more requests are coming in."""
        if not self._pump_is_planned and self._has_idle():
            self._pump_is_planned = True
            self._gathered = -1
            self._gather_until = time.monotonic() + _GATHER_S
            self._loop.call_soon(self._gather)

    def _gather(self) -> None:
        """Go on as long as each turn of the loop brings more: they are there, only not yet read.

        A turn takes microseconds; to wake a worker takes longer, and for a batch of one it is all
        that the batch costs.
        """
        depth = len(self._window)
        is_growing = self._gathered < depth < self._limits.size
        if is_growing and self._pump_is_planned and time.monotonic() < self._gather_until:
            self._gathered = depth
            self._loop.call_soon(self._gather)
        else:
            self.pump()

    def pump(self) -> None:
        """Give every free worker what is due."""
        self._pump_is_planned = False
        if self._held is not None:
            self._held.cancel()
            self._held = None
        while self._has_idle():
            now = time.monotonic()
            if self._window.has_deadlines():
                self._drop_hopeless(now)
            due = self._window.due_at(now, self._idle())
            if due is None or self._must_wait_for_quiet():
                break
            if due > now:
                self._held = self._loop.call_at(due, self.pump)
                break
            self._send(self._left(self._window.take(now)))
            self._on_depth(len(self._window))

    def _drop_hopeless(self, now: float) -> None:
        """Answer at once those whom no batch could answer in time any more."""
        late = self._left(self._window.drop_hopeless(now))
        if not late:
            return
        self._on_late(len(late))
        usual_ms = self._window.service.expected_s(1) * 1000.0
        for job in late:
            job.resolve(
                DeadlineExceeded(
                    "The request waited too long to be answered within the time that its client "
                    f"gave it: the model takes {usual_ms:.3g} ms."
                )
            )

    def _must_wait_for_quiet(self) -> bool:
        """The next one has seen two workers die: it runs alone, so all hold until one is free."""
        if self._has_quiet is None:
            return False
        suspect = self._window.suspect()
        return suspect is not None and suspect.attempts > 1 and not self._has_quiet()

    def take(self, worker: str, room: int) -> list[Job]:
        """Up to `room` requests to join those that a worker goes on with."""
        jobs = self._left(self._window.take_to_join(room))
        if jobs:
            self._on_depth(len(self._window))
        return jobs

    def answered(self, jobs: list[Job], took_s: float) -> None:
        """A batch came back."""
        self._window.answered(len(jobs), took_s, time.monotonic())

    def ran_out_of_memory(self, size: int) -> None:
        """A batch of `size` was too large for its worker: those to come are smaller."""
        self._window.ran_out_of_memory(size)

    def learned(self) -> Learned:
        """What is known of the model's batches."""
        window = self._window
        return Learned(window.service.fixed_s, window.service.each_s, window.cap.limit)

    @property
    def held_s(self) -> float:
        """For how long the batch that left last was held back while a worker was free."""
        return self._window.held_s

    def lost(self, jobs: list[Job], cause: str) -> None:
        """A worker died with these. Each gets another chance: first together, then alone."""
        for job in jobs:
            if not _may_try_again(job):
                job.resolve(WorkerDied(f"Worker died. Attempt {job.attempts}: {cause}."))
        # looked at after those answers, which may have made a client give up others
        kept = [job for job in jobs if job.is_open]
        first = [job for job in kept if job.attempts == 1]
        again = [job for job in kept if job.attempts > 1]
        for job in kept:
            job.on_closed = self._closed
            if job.deadline is not None:
                self._window.set_deadline(job, job.deadline)
        self.waiting_bytes += sum(job.request.size_bytes for job in (*first, *again))
        if first:
            self._window.put_back(first, first[0].queued_at)
        for job in again:
            self._window.isolate((job,), job.queued_at)
        if kept:
            self._on_depth(len(self._window))
        self.wake()  # before the clock is looked at: a free worker comes first
        oldest = self._window.oldest_since()
        if oldest is not None:
            self._watch(oldest)

    def fail_all(self, error: MarServeError) -> None:
        """Answer everything that waits with this error."""
        # all have left before the answers: whoever gets one may ask again at once
        for job in self._left(self._window.take_all()):
            job.resolve(error)
        self._on_depth(len(self._window))

    def close(self) -> None:
        """Stop all timers. Nothing may wait any more."""
        for timer in (self._held, self._expiry):
            if timer is not None:
                timer.cancel()
        self._held = self._expiry = None

    def _left(self, jobs: list[Job]) -> list[Job]:
        """These do not wait any more."""
        for job in jobs:
            job.on_closed = None
            self.waiting_bytes -= job.request.size_bytes
        return jobs

    def _closed(self, job: Job) -> None:
        """Nobody waits for this answer any more: its place is free."""
        if self._window.discard(job):
            self.waiting_bytes -= job.request.size_bytes
            self._on_depth(len(self._window))

    def _expire(self) -> None:
        """Answer those that waited longer than they may; look again when the next one would."""
        self._expiry = None
        now = time.monotonic()
        late = self._left(self._window.drop_before(now - self._timeout_s))
        if late:
            self._on_late(len(late))
        for job in late:
            job.resolve(
                DeadlineExceeded(
                    f"The request waited {self._timeout_s:g} s for a worker (response_timeout)."
                )
            )
        self._on_depth(len(self._window))
        oldest = self._window.oldest_since()
        if oldest is not None:
            self._watch(oldest)

    def _watch(self, since: float) -> None:
        """See to it that a request that came at `since` does not wait for ever."""
        due = since + self._timeout_s
        if self._expiry is not None:
            if self._expiry.when() <= due:
                return
            self._expiry.cancel()
        self._expiry = self._loop.call_at(due, self._expire)


def _may_try_again(job: Job) -> bool:
    """Not too often, and never once the client has a piece of an answer."""
    return job.attempts < _MAX_ATTEMPTS and not job.has_streamed


def _ran_out(job: Job) -> None:
    job.resolve(DeadlineExceeded("There was no answer within the time that the client gave it."))


def _cost_bytes(job: Job) -> float:
    """What a request costs where `maxBatchCost` counts the bytes of bodies."""
    return float(job.request.size_bytes)
