"""Drives sequences on the event loop: each request goes to the worker of its sequence.

The counterpart of `batcher.py` for stateful models: requests of one sequence run one after another
on one worker. A worker's death ends its sequences, as their state is gone: what ran or waited in
them gets an error, and the next request of that name begins anew.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable

import msgspec

from marserve.batching.retry import Loss
from marserve.batching.sequences import SequenceLimits, Sequences
from marserve.errors import DeadlineExceeded, MarServeError, SequenceRefused, WorkerDied
from marserve.model_version import SequenceHeaders
from marserve.request import Job


class SequenceBatcher:
    """The queue of one stateful version. All methods run on the event loop."""

    def __init__(
        self,
        limits: SequenceLimits,
        headers: SequenceHeaders,
        batch_size: int,
        timeout_s: float,
        idle_workers: Callable[[], list[str]],
        send_to: Callable[[str, list[Job]], None],
        on_depth: Callable[[int], None],
    ) -> None:
        self._headers = headers
        self._batch_size = batch_size
        self._timeout_s = timeout_s
        self._idle_workers = idle_workers
        self._send_to = send_to
        self._on_depth = on_depth
        self._loop = asyncio.get_running_loop()
        self._sequences: Sequences[Job] = Sequences(limits)
        self._timers: dict[Job, asyncio.TimerHandle] = {}
        self._alone: deque[Job] = deque()
        self._pump_is_planned = False
        self.waiting_bytes = 0

    @property
    def depth(self) -> int:
        """How many requests wait."""
        return len(self._timers)

    @property
    def oldest_since(self) -> float | None:
        """Since when a request has waited that any worker could run; None when none does.

        One that waits for its own sequence is not helped by another worker.
        """
        fronts = [job.queued_at for job in self._alone]
        unbound = self._sequences.oldest_unbound()
        if unbound is not None:
            fronts.append(unbound)
        return min(fronts, default=None)

    @property
    def workers_in_use(self) -> set[str]:
        """The workers that keep the state of a sequence."""
        return self._sequences.workers(time.monotonic())

    def share(self, per_worker: int) -> None:
        """From now on a worker may have so many sequences."""
        self._sequences.share(per_worker)
        self.wake()

    def submit(self, job: Job) -> None:
        """Put an admitted request into the queue of its sequence.

        Raises:
            SequenceRefused: no more sequences, or requests of this one, are taken.
        """
        reason = self._sequences.offer(self._name(job), job, job.queued_at)
        if reason is not None:
            raise SequenceRefused(f"The request is not taken: {reason}. Try again later.")
        self._wait(job)

    def submit_alone(self, job: Job) -> None:
        """Put a request of no sequence before all others; it leaves in a batch of its own."""
        self._alone.append(job)
        self._wait(job)

    def wake(self) -> None:
        """A worker may be free: look, once this turn of the loop has brought all it brings."""
        if not self._pump_is_planned:
            self._pump_is_planned = True
            self._loop.call_soon(self.pump)

    def pump(self) -> None:
        """Give every free worker what it may run."""
        self._pump_is_planned = False
        for worker in self._idle_workers():
            jobs = self._take_alone() or self.take(worker, self._batch_size)
            if jobs:
                self._send_to(worker, jobs)

    def _take_alone(self) -> list[Job]:
        if not self._alone:
            return []
        job = self._alone.popleft()
        self._left(job)
        self._on_depth(self.depth)
        return [job]

    def take(self, worker: str, room: int) -> list[Job]:
        """Up to `room` requests that this worker may run now.

        None while one waits that must be alone: a worker that is never idle would not take it.
        """
        if self._alone:
            return []
        jobs = self._sequences.take(worker, room, time.monotonic())
        for job in jobs:
            self._left(job)
        if jobs:
            self._on_depth(self.depth)
        return jobs

    def answered(self, jobs: list[Job], took_s: float) -> None:
        """These came back; the next of their sequences may run."""
        now = time.monotonic()
        for job in jobs:
            self._sequences.finished(job, now)
        self.wake()

    def end_sequences(self, names: list[str]) -> None:
        """The handler says that these are over."""
        for name in names:
            self._sequences.end(name)

    def worker_gone(self, worker: str) -> None:
        """A worker ended, and the state of its sequences with it."""
        jobs = self._sequences.worker_gone(worker)
        for job in jobs:
            self._left(job)
        for job in jobs:
            job.resolve(WorkerDied("Worker died, and with it the state of this sequence."))
        self._on_depth(self.depth)

    def lost(self, jobs: list[Job], loss: Loss) -> None:
        """A worker died with these: nobody else knows their sequence, so they are not retried."""
        now = time.monotonic()
        for job in jobs:
            self._sequences.finished(job, now)
            job.resolve(
                WorkerDied(f"Worker died, and with it the state of this sequence: {loss.cause}")
            )

    def fail_all(self, error: MarServeError) -> None:
        """Answer everything that waits with this error."""
        # all have left before the answers: whoever gets one may ask again at once
        jobs = [*self._alone, *self._sequences.take_all()]
        self._alone.clear()
        for job in jobs:
            self._left(job)
        for job in jobs:
            job.resolve(error)
        self._on_depth(self.depth)

    def close(self) -> None:
        """Stop all timers. Nothing may wait any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _name(self, job: Job) -> str:
        """The sequence a request names, or a new one; the handler learns of it by headers."""
        headers = job.request.headers
        wanted = self._headers.id.lower()
        for key, value in headers:
            if key.lower() == wanted and value:
                return value
        name = f"ts-seq-{uuid.uuid4()}"
        told = [header for header in headers if header[0].lower() != wanted]
        told += [(self._headers.id, name), (self._headers.start, "true")]
        job.request = msgspec.structs.replace(job.request, headers=told)
        return name

    def _wait(self, job: Job) -> None:
        job.on_closed = self._closed
        self.waiting_bytes += job.request.size_bytes
        self._timers[job] = self._loop.call_at(job.queued_at + self._timeout_s, self._late, job)
        self.wake()
        self._on_depth(self.depth)

    def _drop(self, job: Job) -> bool:
        """Take one that waits out of its queue; False when it does not wait."""
        if job in self._alone:
            self._alone.remove(job)
        elif not self._sequences.drop(job):
            return False
        self._left(job)
        return True

    def _left(self, job: Job) -> None:
        """A job does not wait any more."""
        job.on_closed = None
        self._timers.pop(job).cancel()
        self.waiting_bytes -= job.request.size_bytes

    def _closed(self, job: Job) -> None:
        """Nobody waits for this answer any more."""
        if self._drop(job):
            self._on_depth(self.depth)

    def _late(self, job: Job) -> None:
        if self._drop(job):
            job.resolve(
                DeadlineExceeded(
                    f"The request waited {self._timeout_s:g} s for a worker (response_timeout)."
                )
            )
            self._on_depth(self.depth)
