"""Drives a window on the event loop: a batch is formed at the moment a worker is free.

Owns the requests of one version while they wait. `send` and `has_idle` are handed in: this module
knows nothing of workers. Requests that arrive in the same turn of the loop leave together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from marserve.batching.census import Census
from marserve.batching.retry import Loss
from marserve.batching.suspects import Court, Lane, Suspects, too_late
from marserve.batching.window import Limits, Window
from marserve.errors import DeadlineExceeded, MarServeError, Shed
from marserve.request import Job

_ROUNDING_S = 1e-6
"""`now` may be `since + timeout`, and `now - timeout` still less than `since`, by a last bit."""
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
        idle: Callable[[], int] = lambda: 1,
        on_late: Callable[[int], None] = lambda count: None,
        on_shed: Callable[[int], None] = lambda count: None,
        lane: Lane | None = None,
        court: Court | None = None,
    ) -> None:
        """`idle`: how many workers are; asked only while one is. `on_late`: so many were answered
        with DeadlineExceeded while they waited. `on_shed`: so many were dropped from a queue that
        stands. `lane`: where suspects run; None: on whoever is quiet. `court`: who learns of them.
        """
        self._limits = limits
        self._timeout_s = timeout_s
        self._has_idle = has_idle
        self._idle = idle
        self._on_late = on_late
        self._on_shed = on_shed if limits.sheds else None
        self._send = send
        self._on_depth = on_depth
        self._loop = asyncio.get_running_loop()
        self._window: Window[Job] = Window(limits, _cost_bytes, _rank)
        self._census: Census | None = None
        self._census_until = 0
        self._pump_is_planned = False
        self._gathered = -1
        self._gather_until = 0.0
        self._held: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self.waiting_bytes = 0
        self._suspected = 0
        """How many wait to run alone."""
        self._suspects = Suspects(
            lane or Lane(self._any_idle, lambda: True, lambda _, jobs: send(jobs)),
            court or Court(),
            self._suspects_changed,
        )
        self._is_wary = False
        """Whether guilty requests are remembered, so that all are looked at."""

    @property
    def depth(self) -> int:
        """How many requests wait."""
        return len(self._window) + self._suspected

    @property
    def oldest_since(self) -> float | None:
        """When the request came that has waited longest; None when nothing waits."""
        fronts = (self._window.oldest_since(), self._suspects.oldest_since)
        return min((front for front in fronts if front is not None), default=None)

    def submit(self, job: Job) -> None:
        """Put an admitted request into the queue.

        Raises:
            PoisonRequestRefused: it has killed workers, time and again.
        """
        if self._is_wary and self._intercept(job):
            return
        self._window.add(job, job.queued_at, job.priority)
        job.on_closed = self._closed
        self.waiting_bytes += job.request.size_bytes
        if self._census is not None:
            self._census.entered(job.priority, job.client)
        self._watch(job.queued_at)
        if job.deadline is not None:
            self._limit(job, job.deadline)
        if self._has_idle():
            self.wake()
        else:
            self._on_depth(self.depth)

    def _intercept(self, job: Job) -> bool:
        """Whether a request that is known to kill workers was put where it is alone."""
        self._is_wary = self._suspects.are_remembered
        if not self._is_wary or not self._suspects.intercept(job):
            return False
        self._watch(job.queued_at)
        if job.deadline is not None:
            self._end_at(job, job.deadline)
        self._loop.call_soon(self.pump)
        return True

    def submit_alone(self, job: Job) -> None:
        """Put a request before all others; it leaves in a batch of its own."""
        self._window.isolate((job,), job.queued_at)
        self._census = None  # rare, so it is taken anew instead
        job.on_closed = self._closed
        self.waiting_bytes += job.request.size_bytes
        self._watch(job.queued_at)
        self.wake()

    def _limit(self, job: Job, deadline: float) -> None:
        """See to it that a client with a deadline has an answer by then, wherever its job is."""
        self._window.set_deadline(job, deadline)
        self._end_at(job, deadline)

    def _end_at(self, job: Job, deadline: float) -> None:
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
        self._give_suspect_its_turn()
        while self._has_idle():
            now = time.monotonic()
            if self._window.has_deadlines():
                self._drop_hopeless(now)
            if self._on_shed is not None:
                self._shed(now)
            due = self._window.due_at(now, self._idle())
            if due is None:
                break
            if due > now:
                self._held = self._loop.call_at(due, self.pump)
                break
            jobs = self._left(self._window.take(now))
            if self._is_wary:
                jobs = self._suspects.sift(jobs)
            if jobs:
                self._send(jobs)
            self._on_depth(self.depth)
            if self._suspected:
                self._suspects.fresh_left()
                self._give_suspect_its_turn()

    def _give_suspect_its_turn(self) -> None:
        if self._suspected:
            self._suspects.take_turn(len(self._window) > 0)

    def _any_idle(self) -> str | None:
        return "" if self._has_idle() else None

    def _suspects_changed(self, count: int, size_bytes: int) -> None:
        self._suspected += count
        self.waiting_bytes += size_bytes
        self._on_depth(self.depth)

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

    def _shed(self, now: float) -> None:
        """Answer at once those that have waited too long in a queue that stands."""
        dropped = self._left(self._window.shed(now))
        if dropped and self._on_shed is not None:
            self._on_shed(len(dropped))
        for job in dropped:
            job.resolve(Shed("The request waited too long in a queue that does not get shorter."))

    # --- who gives way ----------------------------------------------------------------------------

    def rival(self, job: Job) -> Job | None:
        """The request that would have to give its place to `job`, if any should (`census.py`)."""
        if self._census is None:
            waiting = self._window.all_waiting()
            self._census = Census((one.priority, one.client) for one in waiting)
            self._census_until = len(waiting) // 2
        victim = self._census.victim(job.priority, job.client)
        if victim is None:
            return None
        return self._window.line.youngest(lambda one: (one.priority, one.client) == victim)

    def ahead_of(self, priority: int) -> int:
        """How many leave before a request of this class that comes now."""
        suspects = self.depth - len(self._window.line)
        return suspects + self._window.line.count_before(priority)

    def _counted_out(self, jobs: Iterable[Job]) -> None:
        """These are no part of the census any more, which ends when the queue has halved."""
        assert self._census is not None
        if len(self._window) <= self._census_until:
            self._census = None
            return
        for job in jobs:
            self._census.left(job.priority, job.client)

    # --- what leaves ------------------------------------------------------------------------------

    def take(self, worker: str, room: int) -> list[Job]:
        """Up to `room` requests to join those that a worker goes on with."""
        jobs = self._left(self._window.take_to_join(room))
        if jobs:
            if self._is_wary:
                jobs = self._suspects.sift(jobs)
                if self._suspected:  # one of them may have been among these
                    self._loop.call_soon(self.pump)
            self._on_depth(self.depth)
        return jobs

    def answered(self, jobs: list[Job], took_s: float) -> None:
        """A batch came back."""
        if self._suspects.is_one_running:
            self._suspects.answered(jobs)
        self._window.answered(len(jobs), took_s, time.monotonic())

    def ran_out_of_memory(self, size: int) -> None:
        """A batch of `size` was too large for its worker: those to come are smaller."""
        self._window.ran_out_of_memory(size)

    def slow_s(self, size: int) -> float:
        """What 19 of 20 batches of `size` stay below; 0 while nothing is known."""
        return self._window.service.slow_s(size)

    def learned(self) -> Learned:
        """What is known of the model's batches."""
        window = self._window
        return Learned(window.service.fixed_s, window.service.each_s, window.cap.limit)

    @property
    def held_s(self) -> float:
        """For how long the batch that left last was held back while a worker was free."""
        return self._window.held_s

    def lost(self, jobs: list[Job], loss: Loss) -> None:
        """A worker died with these. Nobody is executed for ever, and nobody harmed by others."""
        self._census = None  # rare, so it is taken anew instead
        again = self._suspects.lost(jobs, loss)
        self._is_wary = self._suspects.are_remembered
        for job in again:
            job.on_closed = self._closed
            if job.deadline is not None:
                self._window.set_deadline(job, job.deadline)
        self.waiting_bytes += sum(job.request.size_bytes for job in again)
        if again:
            self._window.put_back(again, again[0].queued_at)
            self._on_depth(self.depth)
        self.wake()  # before the clock is looked at: a free worker comes first
        if self._suspected:
            self._loop.call_soon(self.pump)  # their worker is to be kept free, whoever else is
        oldest = self.oldest_since
        if oldest is not None:
            self._watch(oldest)

    def fail_all(self, error: MarServeError) -> None:
        """Answer everything that waits with this error."""
        # all have left before the answers: whoever gets one may ask again at once
        for job in self._left(self._window.take_all()):
            job.resolve(error)
        self._suspects.fail_all(error)
        self._on_depth(self.depth)

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
        if self._census is not None:
            self._counted_out(jobs)
        return jobs

    def _closed(self, job: Job) -> None:
        """Nobody waits for this answer any more: its place is free."""
        if self._window.discard(job):
            self.waiting_bytes -= job.request.size_bytes
            if self._census is not None:
                self._counted_out((job,))
            self._on_depth(self.depth)

    def _expire(self) -> None:
        """Answer those that waited longer than they may; look again when the next one would."""
        self._expiry = None
        now = time.monotonic()
        error = too_late(self._timeout_s)
        moment = now - self._timeout_s + _ROUNDING_S
        late = self._left(self._window.drop_before(moment))
        count = len(late) + self._suspects.expire(moment, error)
        if count:
            self._on_late(count)
        for job in late:
            job.resolve(error)
        self._on_depth(self.depth)
        oldest = self.oldest_since
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


def _ran_out(job: Job) -> None:
    job.resolve(DeadlineExceeded("There was no answer within the time that the client gave it."))


def _rank(job: Job) -> int:
    """How urgent a request is."""
    return job.priority


def _cost_bytes(job: Job) -> float:
    """What a request costs where `maxBatchCost` counts the bytes of bodies."""
    return float(job.request.size_bytes)
