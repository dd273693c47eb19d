"""The workers of one version: start them, give them batches, replace those that die.

Decisions are taken by `lifecycle.py`; this module carries them out on the event loop. A batch
that its worker could not answer comes back through `Listener.on_lost`, exactly once, and is then
somebody else's to answer.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Protocol

import psutil

from marserve.errors import DeadlineExceeded, LoadFailed, MarServeError
from marserve.events import (
    BatchAnswered,
    BatchLate,
    Bus,
    HandlerMetric,
    StandingChanged,
    WorkerExited,
    WorkerReady,
    WorkersChanged,
    WorkerStarted,
)
from marserve.model_version import WorkerDescription, WorkerState
from marserve.request import Answer, Job, Reply
from marserve.workers.causes import Cause, Ending
from marserve.workers.designation import Designation
from marserve.workers.devices import Group
from marserve.workers.heartbeat import Heartbeat, Patient
from marserve.workers.lifecycle import Instruction, Lifecycle, SpawnWorker, State, StopWorker
from marserve.workers.messages import Result
from marserve.workers.oom_kills import oom_kills
from marserve.workers.recycling import NEVER_WORN
from marserve.workers.replies import replies
from marserve.workers.restarts import Standing
from marserve.workers.rounds import Listener as RoundListener
from marserve.workers.rounds import Rounds
from marserve.workers.supervisor import Supervisor
from marserve.workers.worker import Running, Worker, WorkerPlan

_log = logging.getLogger("marserve.workers")
_HOPELESS_AFTER = 2
_KILLED_WITHIN_S = 30.0
_SILENT_FOR_S = 120.0
"""How long a worker without a response timeout may be silent."""
_WEIGH_EVERY_S = 1.0
_MOST_ENDS = 256
"""Of so many workers that died last it is remembered which they were."""
_SHOWN = {
    State.STARTING: WorkerState.STARTING,
    State.READY: WorkerState.READY,
    State.STOPPING: WorkerState.STOPPING,
}


class Listener(RoundListener, Protocol):
    """Who learns what became of the batches of a pool."""

    def on_idle(self, worker: str) -> None:
        """A worker has room for a batch."""

    def on_lost(self, jobs: list[Job], ending: Ending, unsent: frozenset[int]) -> None:
        """A worker died with these jobs; those still open nobody else will answer.

        `unsent`: `id` of those that it cannot have begun with.
        """

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
        self._lifecycle = Lifecycle(new_id, plan.most_workers)
        self._designation = Designation()
        self._reserved: str | None = None
        """The designated worker, while it is to become free for a suspect."""
        self._ends = 0
        self._ended: OrderedDict[int, str] = OrderedDict()
        """Which worker the latest ends were of."""
        self._oom_kills = oom_kills()
        self._standing = Standing.SOUND
        self._is_counting = plan.wear != NEVER_WORN
        self._is_told_of_ceiling = False
        """Whether the log says that a worker may take less memory than the model needs."""
        self._weighing: asyncio.TimerHandle | None = None
        if plan.wear.above_mb:
            self._weighing = self._loop.call_later(_WEIGH_EVERY_S, self._weigh)
        self._workers: dict[str, Worker] = {}
        self._heartbeat = Heartbeat(
            self._workers.values, plan.response_timeout_s or _SILENT_FOR_S, self._fell_silent
        )
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
        self._last_failed: Worker | None = None
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
        """How many have their model loaded, and answer."""
        workers = self._workers
        return sum(
            state is State.READY and workers[name].silent_since is None
            for name, state in self._lifecycle.states().items()
        )

    @property
    def has_idle(self) -> bool:
        """Whether a batch sent now would run at once."""
        return bool(self._idle)

    @property
    def idle_count(self) -> int:
        """How many workers have room for a batch."""
        return len(self._idle)

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

    @property
    def standing(self) -> Standing:
        """Whether the workers keep dying, or cannot load."""
        return self._lifecycle.standing

    @property
    def probe_in_s(self) -> float | None:
        """How long until the next worker is tried, where none serves and they keep failing."""
        if self.standing is Standing.SOUND or self.ready:
            return None
        return self._lifecycle.probe_in_s(time.monotonic())

    @property
    def last_words(self) -> str | None:
        """What the last worker that failed had printed on its stderr, while that matters."""
        if self._last_failed is None or not self.is_failing:
            return None
        return self._last_failed.last_words or None

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

    def scale(self, count: int, spared: Collection[str] = (), *, forgive: bool = True) -> None:
        """From now on there should be `count` workers. Those that go finish their batch first.

        The `spared` ones go last. `forgive`: somebody wishes it, so dead workers are tried anew.
        """
        self._carry_out(self._lifecycle.want(count, time.monotonic(), spared, forgive=forgive))
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

    def place_for_suspect(self) -> str | None:
        """The designated worker, if it has nothing to do; from now on it gets nothing else."""
        workers = self._workers
        name = self._designation.choose(
            self._states_of_those_heard(), lambda name: workers[name].in_flight == 0
        )
        worker = None if name is None else workers.get(name)  # it may be about to be started
        if name is None or worker is None or not worker.is_loaded:
            return None
        if worker.in_flight == 0 and worker in self._idle:
            self._reserved = None
            return name
        self._reserved = name
        self._forget_idle(worker)
        return None

    def send_alone(self, worker: str, jobs: list[Job]) -> None:
        """Give these jobs to the worker that has just been named as the place for them.

        It gets nothing else until all of them have an answer.
        """
        if len(jobs) > 1:
            self._reserved = worker
        for job in jobs:
            self._give(self._workers[worker], [job], is_alone=True)

    def _states_of_those_heard(self) -> dict[str, State]:
        """Every worker but the silent ones, which may never do what they are given."""
        silent = {name for name, one in self._workers.items() if one.silent_since is not None}
        states = self._lifecycle.states()
        return {name: state for name, state in states.items() if name not in silent}

    def release_suspects(self) -> None:
        """No suspect is left: no worker is kept for them."""
        self._designation.release()
        reserved, self._reserved = self._reserved, None
        worker = self._workers.get(reserved) if reserved is not None else None
        if worker is not None and worker.is_loaded and worker.has_room:
            self._has_room_again(worker)

    def explained(self, ends: Collection[int]) -> None:
        """These ends of workers were the fault of a request: the next ones need not wait."""
        names = {name for number in ends if (name := self._ended.get(number)) is not None}
        self._carry_out(self._lifecycle.explained(names, time.monotonic()))
        self._workers_changed()

    def _give(self, worker: Worker, jobs: list[Job], is_alone: bool = False) -> None:
        worker.give(next(self._batch_ids), jobs, time.monotonic(), is_alone=is_alone)
        if not worker.has_room:
            self._forget_idle(worker)

    def _workers_that_serve(self) -> list[Worker]:
        return self._idle or [
            w
            for w in self._workers.values()
            if w.is_loaded
            and not w.is_told_to_stop
            and not w.is_taken_alone
            and w.silent_since is None
            and w.id != self._reserved
        ]

    async def close(self, grace_s: float) -> None:
        """Stop all workers, each after its batch; kill those that run longer than `grace_s`.

        Raises:
            DeadlineExceeded: killed ones are still there after a while; they go on ending.
        """
        self.scale(0)
        self._heartbeat.stop()
        for timer in (self._wake, self._weighing):
            if timer is not None:
                timer.cancel()
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
        if self._plan.launcher is None:
            self._heartbeat.start()
        self._carry_out(self._lifecycle.loaded(worker.id, time.monotonic()))
        self._workers_changed()
        self._listener.on_idle(worker.id)

    def _bury(self, worker: Worker) -> None:
        self._forget_idle(worker)
        del self._workers[worker.id]
        ending = self._ending(worker)
        cause = ending.text
        if worker.is_told_to_stop:
            self._devices.pop(worker.id, None)
            wanted = Cause.RECYCLED if worker.is_worn else Cause.REQUESTED
            noted = replace(ending, cause=wanted)
        else:
            noted = ending
            self._note_failure(worker, cause)
        now = time.monotonic()
        roll = random.random()  # noqa: S311  chance, no secret
        instructions = self._lifecycle.ended(worker.id, noted, now, roll)
        retry_s = self._lifecycle.retry_s(worker.id, now)
        self._bus.publish(
            WorkerExited(
                self._plan.ref,
                worker.id,
                worker.pid,
                noted.is_expected,
                cause,
                retry_s,
                noted.cause.value,
            )
        )
        self._carry_out(instructions)
        self._workers_changed()
        self._listener.on_gone(worker.id)
        unsent = worker.unsent()
        jobs = worker.take_back()
        if jobs:
            self._listener.on_lost(jobs, ending, unsent)
        if self.is_hopeless:
            self._listener.on_hopeless(cause)

    def _ending(self, worker: Worker) -> Ending:
        """How it ended, and which of all ends that is."""
        self._ends += 1
        self._ended[self._ends] = worker.id
        if len(self._ended) > _MOST_ENDS:
            self._ended.popitem(last=False)
        before, now = self._oom_kills, oom_kills()
        self._oom_kills = now
        has_evidence = before is not None and now is not None and now > before
        return worker.ending(self._ends, has_evidence)

    def _note_failure(self, worker: Worker, cause: str) -> None:
        self.last_error = cause
        self._last_failed = worker
        self._is_out_of_memory = worker.is_out_of_memory
        self._failed_loads += not worker.is_loaded
        self._fails_in_a_row += not worker.is_loaded
        if not self.is_failing or self._failing_since is None:
            self._failing_since = time.monotonic()

    # --- workers that are worn --------------------------------------------------------------------

    def _recycle(self, worker: Worker, reason: str | None) -> None:
        """Have another take its place; not where clients count on what it remembers of them."""
        if reason is None or worker.is_worn or worker.is_told_to_stop:
            return
        if self._plan.sequence_headers is not None:
            return
        worker.is_worn = True
        _log.info("%s: another takes the place of worker %s: %s", self._plan.ref, worker.id, reason)
        self._carry_out(self._lifecycle.recycle(worker.id, time.monotonic()))

    def _weigh(self) -> None:
        for worker in list(self._workers.values()):
            if worker.is_loaded and not worker.is_worn:
                memory_bytes = sum(map(_memory_bytes, worker.pids))
                if worker.wear.is_too_heavy_unused(memory_bytes):
                    self._tell_of_ceiling(memory_bytes)
                self._recycle(worker, worker.wear.weighs(memory_bytes))
        self._weighing = self._loop.call_later(_WEIGH_EVERY_S, self._weigh)

    def _tell_of_ceiling(self, memory_bytes: int) -> None:
        if not self._is_told_of_ceiling:
            self._is_told_of_ceiling = True
            _log.warning(
                "%s: a worker takes %d MB when it has loaded the model, and has answered nothing "
                "yet: recycleAboveMb (%d) should be more than that, or each worker is replaced "
                "after its first requests.",
                *(self._plan.ref, memory_bytes >> 20, self._plan.wear.above_mb),
            )

    # --- what a worker's batch came to (worker.Owner) ---------------------------------------------

    def on_result(
        self, worker: Worker, batch: Running, result: Result, buffers: memoryview
    ) -> None:
        """Resolve the jobs of a batch that came back; those of a round may go on."""
        took_s = time.monotonic() - batch.dispatched_at
        healthy = self._lifecycle.proved_healthy(worker.id, time.monotonic())
        jobs = batch.jobs
        if result.out_of_memory_at:
            self._listener.on_out_of_memory(result.out_of_memory_at)
        queue_s = tuple([job.dispatched_at - job.queued_at for job in jobs[batch.known :]])
        if self._rounds is not None:
            self._end_round(worker, batch, list(replies(result, buffers)), took_s)
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
        if result.ran_out_of_memory:
            self._recycle(worker, worker.wear.ran_out_of_memory(time.monotonic()))
        if self._is_counting:
            self._recycle(worker, worker.wear.served(len(jobs)))
        if healthy:
            self._carry_out(healthy)
            self._workers_changed()

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
        if worker.silent_since is not None:  # when it is heard again, it comes back here
            return
        if worker.id == self._reserved:
            if worker.in_flight:
                return
            self._reserved = None
        if worker not in self._idle:
            self._idle.append(worker)
        self._listener.on_idle(worker.id)

    def _end_round(
        self, worker: Worker, batch: Running, answers: list[Reply], took_s: float
    ) -> None:
        assert self._rounds is not None
        going_on = self._rounds.step(batch.jobs, answers, took_s)
        if not going_on:
            self._has_room_again(worker)
            return
        is_closed = worker.is_told_to_stop or worker.id == self._reserved or batch.is_alone
        joining = [] if is_closed else self._rounds.joining(worker.id, len(going_on))
        worker.give(
            next(self._batch_ids),
            [*going_on, *joining],
            time.monotonic(),
            known=len(going_on),
            is_alone=batch.is_alone,
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
        ending = Ending(Cause.HUNG, worker.cause or "too late")
        self._listener.on_lost(jobs, ending, frozenset())

    # --- small things -----------------------------------------------------------------------------

    def _fell_silent(self, worker: Patient) -> None:
        assert isinstance(worker, Worker)
        _log.warning("%s: worker %s does not answer", self._plan.ref, worker.id)
        self._forget_idle(worker)
        self._workers_changed()
        if worker.id == self._designation.worker and self._idle:
            self._listener.on_idle(self._idle[0].id)  # a suspect that waits for it may go there

    def on_heard(self, worker: Worker) -> None:
        """It answers again: it may have work."""
        self._workers_changed()
        if worker.has_room and not worker.is_told_to_stop:
            self._has_room_again(worker)

    def _forget_idle(self, worker: Worker) -> None:
        if worker in self._idle:
            self._idle.remove(worker)

    def _workers_changed(self) -> None:
        self._changed.set()
        self.is_serving = self.wanted > 0 and self.ready > 0
        if self.standing is not self._standing:
            self._standing = self.standing
            self._bus.publish(StandingChanged(self._plan.ref, self.standing.value, self.last_error))
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
