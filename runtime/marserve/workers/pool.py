"""The workers of one version: start them, give them batches, replace those that die.

Decisions are taken by `lifecycle.py`; this module carries them out on the event loop. A batch
that its worker could not answer comes back through `on_lost`, exactly once, and is then somebody
else's to answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import psutil

from marserve.errors import (
    BadHandlerOutput,
    DeadlineExceeded,
    HandlerFailed,
    LoadFailed,
    MarServeError,
    OutOfMemory,
    ResponseTooLarge,
)
from marserve.events import (
    BatchAnswered,
    Bus,
    HandlerMetric,
    WorkerExited,
    WorkerReady,
    WorkersChanged,
)
from marserve.model_version import WorkerDescription, WorkerState
from marserve.refs import ModelRef
from marserve.request import Answer, Job, Reply
from marserve.workers import messages
from marserve.workers.channel import Channel
from marserve.workers.frames import Frame
from marserve.workers.lifecycle import Instruction, Lifecycle, SpawnWorker, State, StopWorker
from marserve.workers.messages import Failure, FailureKind, FrameKind, Load, Loaded, Result
from marserve.workers.supervisor import Supervisor, WorkerProcess, describe_exit

_log = logging.getLogger("marserve.workers")
_STOP_GRACE_S = 10.0
_HOPELESS_AFTER = 2


class Listener(Protocol):
    """Who learns what became of the batches of a pool."""

    def on_idle(self) -> None:
        """A worker is free."""

    def on_answered(self, size: int, took_s: float) -> None:
        """A batch came back; its jobs are resolved right after this."""

    def on_lost(self, jobs: list[Job], cause: str) -> None:
        """A worker died with these jobs, which nobody else will answer."""

    def on_hopeless(self, cause: str) -> None:
        """No worker serves, and the last ones could not load."""


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What every worker of a version is started with."""

    ref: ModelRef
    load: Load
    preload: tuple[str, ...]
    startup_timeout_s: float
    response_timeout_s: float
    max_frame_bytes: int


@dataclass(eq=False, slots=True)
class _Worker:
    """One worker process and what it is doing."""

    id: str
    started_at: float
    restarts: int
    loaded: asyncio.Future[float]
    process: WorkerProcess | None = None
    channel: Channel | None = None
    batch_id: int = 0
    jobs: list[Job] = field(default_factory=list)
    dispatched_at: float = 0.0
    timer: asyncio.TimerHandle | None = None
    is_told_to_stop: bool = False
    cause: str | None = None

    @property
    def is_loaded(self) -> bool:
        return self.loaded.done() and not self.loaded.cancelled() and not self.loaded.exception()

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else -1


class Pool:
    """Sole owner of a version's workers. All methods run on the event loop."""

    def __init__(
        self,
        plan: PoolPlan,
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
        self._workers: dict[str, _Worker] = {}
        self._idle: list[_Worker] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._results = msgspec.msgpack.Decoder(Result)
        self._next_batch_id = 1
        self._restarts: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._wake: asyncio.TimerHandle | None = None
        self._failed_loads = 0
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
        return self._failed_loads >= _HOPELESS_AFTER and self.ready == 0

    def describe(self) -> tuple[WorkerDescription, ...]:
        """Every worker at this moment, those that wait for their next life included."""
        rows = [self._describe(w) for w in self._workers.values()]
        for name in self._lifecycle.vacant():
            restarts = self._restarts.get(name, 0)
            state = WorkerState.BACKING_OFF
            rows.append(
                WorkerDescription(name, state, -1, time.time(), 0, restarts, self.last_error)
            )
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
        failures = self._lifecycle.failures
        while self.ready < self.wanted:
            if self._lifecycle.failures > failures:
                raise LoadFailed(self.last_error or "a worker died while it loaded its model")
            failures = self._lifecycle.failures
            self._changed.clear()
            await self._changed.wait()

    def send(self, jobs: list[Job]) -> None:
        """Give this batch to a worker that is idle; there must be one (`has_idle`)."""
        worker = self._idle.pop()
        now = time.monotonic()
        worker.batch_id = self._next_batch_id
        self._next_batch_id += 1
        worker.jobs = jobs
        worker.dispatched_at = now
        worker.timer = self._loop.call_at(
            now + self._plan.response_timeout_s, self._timed_out, worker, worker.batch_id
        )
        items = []
        buffers = []
        for job in jobs:
            job.attempts += 1
            job.dispatched_at = now
            request = job.request
            parts = [(name, kind, len(body)) for name, kind, body in request.parts]
            buffers += [part[2] for part in request.parts]
            items.append((request.id, request.headers, parts, request.explain, request.url_path))
        assert worker.channel is not None
        worker.channel.send(FrameKind.BATCH, (worker.batch_id, items), buffers)

    async def close(self, grace_s: float) -> None:
        """Stop all workers, each after its batch; kill those that run longer than `grace_s`."""
        if self._wake is not None:
            self._wake.cancel()
        self.scale(0)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace_s)
            for worker in list(self._workers.values()):
                self._kill(worker, "it was still busy when its time to stop was over")
            if late:
                await asyncio.wait(late)

    # --- the life of a worker ---------------------------------------------------------------------

    def _carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case SpawnWorker(name):
                    restarts = self._restarts.setdefault(name, -1) + 1
                    self._restarts[name] = restarts
                    worker = _Worker(name, time.time(), restarts, self._loop.create_future())
                    self._workers[name] = worker
                    task = self._loop.create_task(self._live(worker), name=f"worker {name}")
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                case StopWorker(name):
                    self._stop(self._workers[name])
                case _:
                    if self._wake is not None:
                        self._wake.cancel()
                    self._wake = self._loop.call_at(instruction.when, self._tick)

    def _tick(self) -> None:
        self._carry_out(self._lifecycle.tick(time.monotonic()))

    async def _live(self, worker: _Worker) -> None:
        try:
            process = await self._start(worker)
            status = await process.exited
            worker.cause = worker.cause or describe_exit(status)
        except (MarServeError, OSError) as error:
            worker.cause = str(error)
        finally:
            if worker.process is not None:
                worker.process.kill()
                await worker.process.exited
            if worker.channel is not None:
                await worker.channel.drained()
            self._buried(worker)

    async def _start(self, worker: _Worker) -> WorkerProcess:
        """Process, channel, model: ready to serve when this returns, or about to be dead.

        Raises:
            LoadFailed: with the cause.
        """
        try:
            async with asyncio.timeout(self._plan.startup_timeout_s):
                worker.process = await self._supervisor.spawn(worker.id, self._plan.preload)
                _, worker.channel = await self._loop.create_connection(
                    lambda: Channel(
                        self._plan.max_frame_bytes,
                        lambda frame: self._received(worker, frame),
                        lambda reason: self._lost(worker, reason),
                    ),
                    sock=worker.process.channel,
                )
                worker.channel.send(FrameKind.LOAD, self._plan.load)
                await asyncio.wait((worker.loaded,))
        except TimeoutError:
            raise LoadFailed(
                f"The model was not loaded within {self._plan.startup_timeout_s:g} s "
                "(startup_timeout)."
            ) from None
        if worker.is_told_to_stop or worker.loaded.cancelled():
            worker.process.kill()
            return worker.process
        load_s = worker.loaded.result()
        self._bus.publish(WorkerReady(self._plan.ref, worker.id, worker.pid, load_s))
        self._failed_loads = 0
        self._idle.append(worker)
        self._carry_out(self._lifecycle.loaded(worker.id, time.monotonic()))
        self._workers_changed()
        self._listener.on_idle()
        return worker.process

    def _stop(self, worker: _Worker) -> None:
        worker.is_told_to_stop = True
        if worker in self._idle:
            self._idle.remove(worker)
        if not worker.loaded.done():
            worker.loaded.cancel()
        elif not worker.jobs:
            self._dismiss(worker)

    def _dismiss(self, worker: _Worker) -> None:
        assert worker.channel is not None
        worker.channel.send(FrameKind.STOP, ())
        self._loop.call_later(_STOP_GRACE_S, self._kill, worker, "it did not stop when told to")

    def _kill(self, worker: _Worker, cause: str) -> None:
        if worker.process is not None and not worker.process.exited.done():
            worker.cause = worker.cause or cause
            worker.process.kill()

    def _lost(self, worker: _Worker, reason: str | None) -> None:
        """The channel has ended: so has the process, or it must (a closed channel has no cause)."""
        if reason is not None:
            worker.cause = worker.cause or reason
        if not worker.loaded.done():
            worker.loaded.cancel()
        if worker.process is not None:
            worker.process.kill()

    def _buried(self, worker: _Worker) -> None:
        if worker.timer is not None:
            worker.timer.cancel()
        if worker.channel is not None:
            worker.channel.close(None)
        if worker in self._idle:
            self._idle.remove(worker)
        del self._workers[worker.id]
        expected = worker.is_told_to_stop
        if not expected:
            self.last_error = worker.cause
            self._failed_loads += not worker.is_loaded
            _log.warning("worker %s of %s: %s", worker.id, self._plan.ref, worker.cause)
        cause = worker.cause or "stopped"
        self._bus.publish(WorkerExited(self._plan.ref, worker.id, worker.pid, expected, cause))
        self._carry_out(self._lifecycle.ended(worker.id, expected, time.monotonic()))
        self._workers_changed()
        jobs, worker.jobs = worker.jobs, []
        if jobs:
            self._listener.on_lost(jobs, cause)
        if self.is_hopeless:
            self._listener.on_hopeless(cause)

    # --- what a worker says -----------------------------------------------------------------------

    def _received(self, worker: _Worker, frame: Frame) -> None:
        match frame.kind:
            case FrameKind.RESULT:
                self._answered(worker, frame)
            case FrameKind.LOADED if not worker.loaded.done():
                worker.loaded.set_result(msgspec.msgpack.decode(frame.meta, type=Loaded).load_s)
            case FrameKind.LOAD_FAILED if not worker.loaded.done():
                failed = msgspec.msgpack.decode(frame.meta, type=messages.LoadFailed)
                worker.loaded.set_exception(LoadFailed(failed.message))
            case _:
                self._kill(worker, f"it sent {frame.kind.name}, which nobody expected")

    def _answered(self, worker: _Worker, frame: Frame) -> None:
        result = self._results.decode(frame.meta)
        jobs = worker.jobs
        sizes = result.sizes_bytes
        is_ours = result.id == worker.batch_id and len(sizes) == len(jobs) and jobs
        if not is_ours or sum(sizes) != len(frame.buffers):
            self._kill(worker, "its answer does not belong to its batch")
            return
        assert worker.timer is not None
        worker.timer.cancel()
        worker.jobs = []
        self._lifecycle.proved_healthy()
        self._listener.on_answered(len(jobs), time.monotonic() - worker.dispatched_at)
        if worker.is_told_to_stop:
            self._dismiss(worker)
        else:
            self._idle.append(worker)
            self._listener.on_idle()  # the next batch leaves before this one's answers are written
        start = 0
        extras = result.extras
        for index, job in enumerate(jobs):
            end = start + sizes[index]
            body = bytes(frame.buffers[start:end])
            extra = extras.get(index) if extras else None
            job.resolve(Answer(body) if extra is None else _reply(body, extra))
            start = end
        self._publish(worker, jobs, result)

    def _publish(self, worker: _Worker, jobs: list[Job], result: Result) -> None:
        queue_s = tuple([job.dispatched_at - job.queued_at for job in jobs])
        worker_s = time.monotonic() - worker.dispatched_at
        ref = self._plan.ref
        self._bus.publish(BatchAnswered(ref, len(jobs), queue_s, result.handler_s, worker_s))
        for m in result.metrics:
            self._bus.publish(HandlerMetric(ref, m.name, m.value, m.unit, m.kind, m.dimensions))

    def _timed_out(self, worker: _Worker, batch_id: int) -> None:
        if worker.batch_id != batch_id or not worker.jobs:
            return
        jobs, worker.jobs = worker.jobs, []
        limit_s = self._plan.response_timeout_s
        self._listener.on_answered(len(jobs), limit_s)
        for job in jobs:
            job.resolve(
                DeadlineExceeded(
                    f"The model did not answer within {limit_s:g} s (response_timeout)."
                )
            )
        self._kill(worker, f"it did not answer within {limit_s:g} s (response_timeout)")

    # --- small things -----------------------------------------------------------------------------

    def _workers_changed(self) -> None:
        self._changed.set()
        alive = sum(worker.process is not None for worker in self._workers.values())
        self._bus.publish(WorkersChanged(self._plan.ref, self.wanted, alive, self.ready))

    def _describe(self, worker: _Worker) -> WorkerDescription:
        state = {
            State.STARTING: WorkerState.STARTING,
            State.READY: WorkerState.READY,
            State.STOPPING: WorkerState.STOPPING,
        }[self._lifecycle.states()[worker.id]]
        return WorkerDescription(
            id=worker.id,
            state=state,
            pid=worker.pid,
            started_at=worker.started_at,
            memory_bytes=_memory_bytes(worker.pid),
            restarts=worker.restarts,
            last_error=self.last_error if worker.restarts else None,
        )


def _reply(body: bytes, extra: messages.Extra) -> Reply:
    if extra.failure is not None:
        return _error(extra.failure)
    return Answer(body, extra.status, extra.phrase, extra.headers)


def _error(failure: Failure) -> MarServeError:
    match failure.kind:
        case FailureKind.RAISED:
            return HandlerFailed(failure.message, failure.status)
        case FailureKind.OUT_OF_MEMORY:
            return OutOfMemory(failure.message)
        case FailureKind.TOO_LARGE:
            return ResponseTooLarge(failure.message)
        case _:
            return BadHandlerOutput(failure.message)


def _memory_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss) if pid > 0 else 0
    except psutil.Error:
        return 0
