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
from collections.abc import Callable
from typing import Protocol

import psutil

from marserve.errors import DeadlineExceeded, LoadFailed, MarServeError
from marserve.events import (
    BatchAnswered,
    Bus,
    HandlerMetric,
    WorkerExited,
    WorkerReady,
    WorkersChanged,
)
from marserve.model_version import WorkerDescription, WorkerState
from marserve.request import Job
from marserve.workers.lifecycle import Instruction, Lifecycle, SpawnWorker, State, StopWorker
from marserve.workers.messages import Result
from marserve.workers.replies import replies
from marserve.workers.supervisor import Supervisor
from marserve.workers.worker import Worker, WorkerPlan

_log = logging.getLogger("marserve.workers")
_HOPELESS_AFTER = 2
_SHOWN = {
    State.STARTING: WorkerState.STARTING,
    State.READY: WorkerState.READY,
    State.STOPPING: WorkerState.STOPPING,
}


class Listener(Protocol):
    """Who learns what became of the batches of a pool."""

    def on_idle(self) -> None:
        """A worker is free."""

    def on_answered(self, size: int, took_s: float) -> None:
        """A batch came back; its jobs are resolved right after this."""

    def on_lost(self, jobs: list[Job], cause: str) -> None:
        """A worker died with these jobs; those still open nobody else will answer."""

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
        self.last_error: str | None = None

    # --- what others ask --------------------------------------------------------------------------

    @property
    def wanted(self) -> int:
        """How many workers there should be."""
        return self._lifecycle.wanted

    @property
    def ready(self) -> int:
        """How many have their model loaded."""
        return sum(s is State.READY for s in self._lifecycle.states().values())

    @property
    def has_idle(self) -> bool:
        """Whether a batch sent now would run at once."""
        return bool(self._idle)

    @property
    def is_failing(self) -> bool:
        """Whether workers died or could not load since one last proved healthy."""
        return self._lifecycle.failures > 0

    @property
    def is_hopeless(self) -> bool:
        """Whether no worker serves and the last ones could not even load: waiting is in vain."""
        return self._fails_in_a_row >= _HOPELESS_AFTER and self.ready == 0

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

    def scale(self, count: int) -> None:
        """From now on there should be `count` workers. Those that go finish their batch first."""
        self._carry_out(self._lifecycle.want(count, time.monotonic()))
        self._workers_changed()

    async def settled(self) -> None:
        """Wait until as many workers are ready as are wanted.

        Raises:
            LoadFailed: a worker could not load its model, or died while it tried.
        """
        failed_loads = self._failed_loads
        while self.ready < self.wanted:
            if self._failed_loads > failed_loads:
                raise LoadFailed(self.last_error or "a worker died while it loaded its model")
            self._changed.clear()
            await self._changed.wait()

    def send(self, jobs: list[Job]) -> None:
        """Give this batch to a worker that is idle; there must be one (`has_idle`)."""
        self._idle.pop().give(next(self._batch_ids), jobs, time.monotonic())

    async def close(self, grace_s: float) -> None:
        """Stop all workers, each after its batch; kill those that run longer than `grace_s`."""
        self.scale(0)
        if self._wake is not None:
            self._wake.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace_s)
            for worker in list(self._workers.values()):
                worker.kill("it was still busy when its time to stop was over")
            if late:
                await asyncio.wait(late)

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
        worker = self._workers[name] = Worker(name, restarts, self._plan, self)
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
        self._idle.append(worker)
        self._carry_out(self._lifecycle.loaded(worker.id, time.monotonic()))
        self._workers_changed()
        self._listener.on_idle()

    def _bury(self, worker: Worker) -> None:
        self._forget_idle(worker)
        del self._workers[worker.id]
        expected = worker.is_told_to_stop
        cause = worker.cause or "stopped"
        if not expected:
            self.last_error = cause
            self._failed_loads += not worker.is_loaded
            self._fails_in_a_row += not worker.is_loaded
            _log.warning("worker %s of %s: %s", worker.id, self._plan.ref, cause)
        self._bus.publish(WorkerExited(self._plan.ref, worker.id, worker.pid, expected, cause))
        self._carry_out(self._lifecycle.ended(worker.id, expected, time.monotonic()))
        self._workers_changed()
        jobs = worker.take_back()
        if jobs:
            self._listener.on_lost(jobs, cause)
        if self.is_hopeless:
            self._listener.on_hopeless(cause)

    # --- what a worker's batch came to (worker.Owner) ---------------------------------------------

    def on_result(
        self, worker: Worker, jobs: list[Job], result: Result, buffers: memoryview
    ) -> None:
        """Resolve the jobs of a batch that came back."""
        took_s = time.monotonic() - worker.dispatched_at
        self._lifecycle.proved_healthy(worker.id)
        self._listener.on_answered(len(jobs), took_s)
        if worker.is_told_to_stop:
            worker.dismiss()
        else:
            self._idle.append(worker)
            self._listener.on_idle()  # the next batch leaves before this one's answers are written
        queue_s = tuple([job.dispatched_at - job.queued_at for job in jobs])
        for job, reply in zip(jobs, replies(result, buffers), strict=True):
            job.resolve(reply)
        ref = self._plan.ref
        self._bus.publish(BatchAnswered(ref, len(jobs), queue_s, result.handler_s, took_s))
        for m in result.metrics:
            self._bus.publish(HandlerMetric(ref, m.name, m.value, m.unit, m.kind, m.dimensions))

    def on_late(self, worker: Worker, jobs: list[Job]) -> None:
        """Answer for a worker that did not; it is being killed."""
        limit_s = self._plan.response_timeout_s
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
        alive = sum(worker.pid > 0 for worker in self._workers.values())
        self._bus.publish(WorkersChanged(self._plan.ref, self.wanted, alive, self.ready))

    def _describe(self, worker: Worker, state: WorkerState) -> WorkerDescription:
        return WorkerDescription(
            id=worker.id,
            state=state,
            pid=worker.pid,
            started_at=worker.started_at,
            memory_bytes=_memory_bytes(worker.pid),
            restarts=worker.restarts,
            last_error=self.last_error if worker.restarts else None,
        )


def _memory_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss) if pid > 0 else 0
    except psutil.Error:
        return 0
