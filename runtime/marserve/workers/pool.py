"""The workers of one version: start them, give them batches, replace those that die.

Decisions are taken by `lifecycle.py`; this module carries them out on the event loop. A batch
that its worker could not answer comes back through `Listener.on_lost`, exactly once, and is then
somebody else's to answer.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Collection
from typing import Protocol

import psutil

from marserve.errors import DeadlineExceeded, LoadFailed, MarServeError
from marserve.events import (
    BatchAnswered,
    BatchLate,
    Bus,
    HandlerMetric,
    WorkerExited,
    WorkerReady,
    WorkersChanged,
    WorkerStarted,
)
from marserve.model_version import WorkerDescription, WorkerState
from marserve.request import Answer, Job, Reply
from marserve.workers.devices import Group
from marserve.workers.lifecycle import Instruction, Lifecycle, SpawnWorker, State, StopWorker
from marserve.workers.messages import Result
from marserve.workers.replies import replies
from marserve.workers.rounds import Listener as RoundListener
from marserve.workers.rounds import Rounds
from marserve.workers.supervisor import Supervisor
from marserve.workers.worker import Running, Worker, WorkerPlan

_log = logging.getLogger("marserve.workers")
_HOPELESS_AFTER = 2
_KILLED_WITHIN_S = 30.0
_SHOWN = {
    State.STARTING: WorkerState.STARTING,
    State.READY: WorkerState.READY,
    State.STOPPING: WorkerState.STOPPING,
}


class Listener(RoundListener, Protocol):
    """Who learns what became of the batches of a pool."""

    def on_idle(self, worker: str) -> None:
        """A worker has room for a batch."""

    def on_lost(self, jobs: list[Job], cause: str) -> None:
        """A worker died with these jobs; those still open nobody else will answer."""

    def on_out_of_memory(self, size: int) -> None:
        """A batch of `size` was too large for a worker's memory, but its parts were not."""

    def on_gone(self, worker: str) -> None:
        """A worker has ended, and whatever it kept of past requests with it."""

    def on_hopeless(self, cause: str) -> None:
        """No worker serves, and the last ones could not load."""


class Pool:
    """Sole owner of a version's workers. All methods run on the event loop."""

    def __init__(
        self,
        plan: WorkerPlan,
        supervisor: Supervisor,
        bus: Bus,
        new_id: Callable[[], str],
        listener: Listener,
    ) -> None:
        self._plan = plan
        self._supervisor = supervisor
        self._bus = bus
        self._listener = listener
        self._rounds: Rounds | None = None
        if plan.round_size is not None:
            self._rounds = Rounds(plan.round_size, plan.sequence_headers, listener)
        self._loop = asyncio.get_running_loop()
        self._lifecycle = Lifecycle(new_id)
        self._workers: dict[str, Worker] = {}
        self._idle: list[Worker] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._batch_ids = itertools.count(1)
        self._restarts: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._wake: asyncio.TimerHandle | None = None
        self._failed_loads = 0
        self._fails_in_a_row = 0
        self._failing_since: float | None = None
        self._devices: dict[str, Group] = {}
        self.is_serving = False
        """Whether a worker is ready and shall be. Kept up to date with every change of workers."""
        self.last_error: str | None = None
        self._is_out_of_memory = False
        """Whether that was why the last worker could not load."""

    # --- what others ask --------------------------------------------------------------------------

    @property
    def wanted(self) -> int:
        """How many workers there should be."""
        return self._lifecycle.wanted

    @property
    def threads(self) -> int | None:
        """How many threads each worker computes with; None: the server does not decide that."""
        return self._plan.threads_for(self.wanted)

    @property
    def ready(self) -> int:
        """How many have their model loaded."""
        return sum(s is State.READY for s in self._lifecycle.states().values())

    @property
    def has_idle(self) -> bool:
        """Whether a batch sent now would run at once."""
        return bool(self._idle)

    @property
    def idle_count(self) -> int:
        """How many workers have room for a batch."""
        return len(self._idle)

    @property
    def has_quiet(self) -> bool:
        """Whether some worker has nothing to do at all."""
        return any(worker.in_flight == 0 for worker in self._idle)

    @property
    def idle(self) -> list[str]:
        """The workers that have room for a batch."""
        return [worker.id for worker in self._idle]

    @property
    def busy(self) -> int:
        """How many workers have a batch."""
        return sum(worker.in_flight > 0 for worker in self._workers.values())

    @property
    def failing_s(self) -> float:
        """For how long workers have been dying or unable to load; 0 while they are healthy."""
        if self._failing_since is None or not self.is_failing:
            return 0.0
        return time.monotonic() - self._failing_since

    @property
    def is_failing(self) -> bool:
        """Whether workers died or could not load since one last proved healthy."""
        return self._lifecycle.failures > 0

    @property
    def is_hopeless(self) -> bool:
        """Whether no worker serves and the last ones could not even load: waiting is in vain.

        Where none is wanted, as nobody asked for long, the next request is worth another try.
        """
        return self.wanted > 0 and self._fails_in_a_row >= _HOPELESS_AFTER and self.ready == 0

    def describe(self) -> tuple[WorkerDescription, ...]:
        """Every worker at this moment, those that wait for their next life included."""
        states = self._lifecycle.states()
        rows = [self._describe(w, _SHOWN[states[w.id]]) for w in self._workers.values()]
        for name in self._lifecycle.vacant():
            state, restarts = WorkerState.BACKING_OFF, self._restarts.get(name, 0)
            now = time.time()
            rows.append(WorkerDescription(name, state, -1, now, 0, restarts, self.last_error))
        return tuple(rows)

    # --- what others tell -------------------------------------------------------------------------

    def scale(self, count: int, spared: Collection[str] = ()) -> None:
        """From now on there should be `count` workers. Those that go finish their batch first.

        The `spared` ones go last.
        """
        self._carry_out(self._lifecycle.want(count, time.monotonic(), spared))
        for worker in self._workers.values():
            worker.use_threads(self.threads)
        self._workers_changed()

    async def settled(self) -> None:
        """Wait until as many workers are ready as are wanted.

        Raises:
            LoadFailed: a worker could not load its model, or died while it tried.
        """
        failed_loads = self._failed_loads
        while self.ready < self.wanted:
            if self._failed_loads > failed_loads:
                error = LoadFailed(self.last_error or "a worker died while it loaded its model")
                error.out_of_memory = self._is_out_of_memory
                raise error
            self._changed.clear()
            await self._changed.wait()

    def send(self, jobs: list[Job]) -> None:
        """Give this batch to a worker that is idle; there must be one (`has_idle`)."""
        if self._plan.max_in_flight == 1:
            self._idle.pop().give(next(self._batch_ids), jobs, time.monotonic())
            return
        for job in jobs:  # each by itself, to whoever has least to do
            least = min(self._workers_that_serve(), key=lambda worker: worker.in_flight)
            self._give(least, [job])

    def send_to(self, worker: str, jobs: list[Job]) -> None:
        """Give this batch to exactly this worker, which must be idle."""
        self._give(self._workers[worker], jobs)

    def _give(self, worker: Worker, jobs: list[Job]) -> None:
        worker.give(next(self._batch_ids), jobs, time.monotonic())
        if not worker.has_room:
            self._forget_idle(worker)

    def _workers_that_serve(self) -> list[Worker]:
        return self._idle or [
            w for w in self._workers.values() if w.is_loaded and not w.is_told_to_stop
        ]

    async def close(self, grace_s: float) -> None:
        """Stop all workers, each after its batch; kill those that run longer than `grace_s`.

        Raises:
            DeadlineExceeded: killed ones are still there after a while; they go on ending.
        """
        self.scale(0)
        if self._wake is not None:
            self._wake.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace_s)
            for worker in list(self._workers.values()):
                worker.kill("it was still busy when its time to stop was over")
            if late:
                _, left = await asyncio.wait(late, timeout=_KILLED_WITHIN_S)
                if left:
                    raise DeadlineExceeded(
                        f"Timed out while cleaning resources: {self._plan.ref.name}"
                    )

    # --- the life of a worker ---------------------------------------------------------------------

    def _carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case SpawnWorker(name):
                    self._spawn(name)
                case StopWorker(name):
                    worker = self._workers[name]
                    self._forget_idle(worker)
                    worker.stop()
                case _:
                    if self._wake is not None:
                        self._wake.cancel()
                    self._wake = self._loop.call_at(instruction.when, self._tick)

    def _tick(self) -> None:
        self._carry_out(self._lifecycle.tick(time.monotonic()))

    def _spawn(self, name: str) -> None:
        restarts = self._restarts[name] = self._restarts.get(name, -1) + 1
        if name not in self._devices:
            self._devices[name] = self._plan.next_devices(self._devices.values())
        worker = Worker(name, restarts, self._plan, self, self._devices[name])
        self._workers[name] = worker
        self._bus.publish(WorkerStarted(self._plan.ref, name))
        task = self._loop.create_task(self._live(worker), name=f"worker {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self, worker: Worker) -> None:
        failed: Exception | None = None
        try:
            load_s = await worker.start(self._supervisor)
            if load_s is not None:
                self._serve(worker, load_s)
        except (MarServeError, OSError) as error:
            failed = error
        await worker.end(failed)
        self._bury(worker)

    def _serve(self, worker: Worker, load_s: float) -> None:
        self._fails_in_a_row = 0
        self._bus.publish(WorkerReady(self._plan.ref, worker.id, worker.pid, load_s))
        worker.use_threads(self.threads)  # it may have changed while it loaded
        self._idle.append(worker)
        self._carry_out(self._lifecycle.loaded(worker.id, time.monotonic()))
        self._workers_changed()
        self._listener.on_idle(worker.id)

    def _bury(self, worker: Worker) -> None:
        self._forget_idle(worker)
        del self._workers[worker.id]
        expected = worker.is_told_to_stop
        cause = worker.cause or "stopped"
        if not expected:
            self.last_error = cause
            self._is_out_of_memory = worker.is_out_of_memory
            self._failed_loads += not worker.is_loaded
            self._fails_in_a_row += not worker.is_loaded
            if not self.is_failing or self._failing_since is None:
                self._failing_since = time.monotonic()
        else:
            self._devices.pop(worker.id, None)
        now = time.monotonic()
        instructions = self._lifecycle.ended(worker.id, expected, now)
        retry_s = self._lifecycle.retry_s(worker.id, now)
        ref = self._plan.ref
        self._bus.publish(WorkerExited(ref, worker.id, worker.pid, expected, cause, retry_s))
        self._carry_out(instructions)
        self._workers_changed()
        self._listener.on_gone(worker.id)
        jobs = worker.take_back()
        if jobs:
            self._listener.on_lost(jobs, cause)
        if self.is_hopeless:
            self._listener.on_hopeless(cause)

    # --- what a worker's batch came to (worker.Owner) ---------------------------------------------

    def on_result(
        self, worker: Worker, batch: Running, result: Result, buffers: memoryview
    ) -> None:
        """Resolve the jobs of a batch that came back; those of a round may go on."""
        took_s = time.monotonic() - batch.dispatched_at
        self._lifecycle.proved_healthy(worker.id)
        jobs = batch.jobs
        if result.out_of_memory_at:
            self._listener.on_out_of_memory(result.out_of_memory_at)
        queue_s = tuple([job.dispatched_at - job.queued_at for job in jobs[batch.known :]])
        if self._rounds is not None:
            self._end_round(worker, jobs, list(replies(result, buffers)), took_s)
        else:
            self._listener.on_answered(jobs, took_s)
            self._has_room_again(worker)  # the next batch leaves before these answers are written
            for job, reply in zip(jobs, replies(result, buffers), strict=True):
                job.resolve(reply)
        ref = self._plan.ref
        ids = tuple([job.request.id for job in jobs])
        self._bus.publish(BatchAnswered(ref, len(jobs), queue_s, result.handler_s, took_s, ids))
        for m in result.metrics:
            self._bus.publish(
                HandlerMetric(
                    ref, m.name, m.value, m.unit, m.kind, m.dimensions, tuple(m.request_ids)
                )
            )

    def on_piece(self, jobs: list[Job], result: Result, buffers: memoryview) -> None:
        """Hand on a piece of each answer."""
        for job, reply in zip(jobs, replies(result, buffers), strict=True):
            if isinstance(reply, Answer):
                job.stream(reply)
            else:
                job.resolve(reply)

    def _has_room_again(self, worker: Worker) -> None:
        if worker.is_told_to_stop:
            if worker.in_flight == 0:
                worker.dismiss()
            return
        if worker not in self._idle:
            self._idle.append(worker)
        self._listener.on_idle(worker.id)

    def _end_round(
        self, worker: Worker, jobs: list[Job], answers: list[Reply], took_s: float
    ) -> None:
        assert self._rounds is not None
        going_on = self._rounds.step(jobs, answers, took_s)
        if not going_on:
            self._has_room_again(worker)
            return
        joining = [] if worker.is_told_to_stop else self._rounds.joining(worker.id, len(going_on))
        worker.give(
            next(self._batch_ids), [*going_on, *joining], time.monotonic(), known=len(going_on)
        )

    def on_late(self, worker: Worker, jobs: list[Job]) -> None:
        """Answer for a worker that did not; it is being killed."""
        limit_s = self._plan.response_timeout_s
        self._bus.publish(BatchLate(self._plan.ref, worker.id, len(jobs)))
        for job in jobs:
            job.resolve(
                DeadlineExceeded(
                    f"The model did not answer within {limit_s:g} s (response_timeout)."
                )
            )
        self._listener.on_lost(jobs, worker.cause or "too late")

    # --- small things -----------------------------------------------------------------------------

    def _forget_idle(self, worker: Worker) -> None:
        if worker in self._idle:
            self._idle.remove(worker)

    def _workers_changed(self) -> None:
        self._changed.set()
        self.is_serving = self.wanted > 0 and self.ready > 0
        alive = sum(worker.pid > 0 for worker in self._workers.values())
        self._bus.publish(WorkersChanged(self._plan.ref, self.wanted, alive, self.ready))

    def _describe(self, worker: Worker, state: WorkerState) -> WorkerDescription:
        return WorkerDescription(
            id=worker.id,
            state=state,
            pid=worker.pid,
            started_at=worker.started_at,
            memory_bytes=sum(map(_memory_bytes, worker.pids)),
            restarts=worker.restarts,
            last_error=self.last_error if worker.restarts else None,
            gpu_id=worker.gpu_id,
        )


def _memory_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss) if pid > 0 else 0
    except psutil.Error:
        return 0
