"""One worker: its process, its channel, and the batch it runs.

Owned by a pool, which decides when it starts and stops and learns what becomes of its batches.
A worker runs one batch at a time, or with an asynchronous handler many requests, each a batch of
its own; an answer counts only if it belongs to exactly that batch.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import msgspec

from marserve.errors import LoadFailed, MarServeError
from marserve.model_version import SequenceHeaders
from marserve.refs import ModelRef
from marserve.request import Job, Request
from marserve.workers import messages
from marserve.workers.causes import UNKNOWN_STATUS, Cause, Ending, cause_of
from marserve.workers.channel import Channel
from marserve.workers.devices import Group
from marserve.workers.frames import Frame
from marserve.workers.launched import LaunchedProcess, Launcher
from marserve.workers.load_gate import LoadGate, Turn
from marserve.workers.messages import Confinement, FrameKind, Load, Loaded, Result
from marserve.workers.rank_channels import RankChannels
from marserve.workers.recycling import NEVER_WORN, Wear, WearLimits
from marserve.workers.supervisor import (
    Supervisor,
    WorkerProcess,
    describe_exit,
    was_killed,
)
from marserve.workers.torchrun import devices_environ

_STOP_GRACE_S = 10.0
_HANG_UP_S = 0.25
"""After its channel has ended a process has so long to end by itself, which tells why it did."""


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What every worker of a version is started with."""

    ref: ModelRef
    load: Load
    preload: tuple[str, ...]
    startup_timeout_s: float
    response_timeout_s: float | None
    """Without an answer, or a piece of one, for so long the worker is ended; None: never."""
    max_frame_bytes: int
    python: str = sys.executable
    max_in_flight: int = 1
    """How many batches a worker may have at a time."""
    next_devices: Callable[[Collection[Group]], Group] = lambda in_use: ()
    """The devices of the next worker, given those of the others."""
    most_workers: int | None = None
    """For more there are no devices."""
    is_shown_own_devices: bool = False
    """A worker sees its devices, and no others: they count from 0 for the handler."""
    launcher: Launcher | None = None
    """Starts the workers; None: they are forked."""
    sequence_headers: SequenceHeaders | None = None
    """How a stateful model's requests name their sequence; None: it has no sequences."""
    threads_for: Callable[[int], int | None] = lambda workers: None
    """How many threads each of so many workers computes with; None: the server does not say."""
    confinement: Confinement | None = None
    """How its workers are shut in; None: only by what always holds."""
    round_size: int | None = None
    """Continuous batching: how many requests may run together, round after round."""
    may_retry: bool = True
    """Whether requests are tried again when their worker has died."""
    wear: WearLimits = NEVER_WORN
    """When a worker is replaced although it works."""
    load_gate: LoadGate | None = None
    """Shared by all versions: how many workers load at a time."""


class Running:
    """A batch that a worker has. `known` of its jobs, the first ones, had been sent before.

    `is_alone`: nothing else is given to the worker meanwhile.
    """

    __slots__ = ("dispatched_at", "id", "is_alone", "jobs", "known", "timer")

    def __init__(
        self, id_: int, jobs: list[Job], known: int, dispatched_at: float, is_alone: bool
    ) -> None:
        self.id = id_
        self.jobs = jobs
        self.known = known
        self.dispatched_at = dispatched_at
        self.is_alone = is_alone
        self.timer: asyncio.TimerHandle | None = None


class Owner(Protocol):
    """Who learns what became of a batch."""

    @property
    def threads(self) -> int | None:
        """How many threads each worker computes with; None: the server does not decide that."""

    def on_result(
        self, worker: Worker, batch: Running, result: Result, buffers: memoryview
    ) -> None:
        """The batch came back; the worker has room again."""

    def on_piece(self, jobs: list[Job], result: Result, buffers: memoryview) -> None:
        """A piece of each answer came; more will."""

    def on_late(self, worker: Worker, jobs: list[Job]) -> None:
        """The batch did not come back in time; the worker is being killed."""

    def on_heard(self, worker: Worker) -> None:
        """It had been silent, and answers again."""


class Worker:
    """One life of one worker. All methods run on the event loop."""

    def __init__(
        self, id_: str, restarts: int, plan: WorkerPlan, owner: Owner, devices: Group = ()
    ) -> None:
        self.id = id_
        self.devices = devices
        self.restarts = restarts
        self.started_at = time.time()
        self.is_told_to_stop = False
        self.is_loaded = False
        self.is_out_of_memory = False
        """Whether it said so, or the kernel killed it, which does that for want of memory."""
        self.cause: str | None = None
        """Why it ended, once it has; the first reason counts."""
        self.status = UNKNOWN_STATUS
        """What `os.waitpid` said of it, once it has ended."""
        self.is_worn = False
        """Whether another takes its place because of its age."""
        self.wear = Wear(plan.wear, random.random())  # noqa: S311  chance, no secret
        self._killed_for: Cause | None = None
        self._plan = plan
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[float | LoadFailed] = self._loop.create_future()
        self._process: WorkerProcess | LaunchedProcess | None = None
        self._channel: Channel | RankChannels | None = None
        self._results = msgspec.msgpack.Decoder(Result)
        self._batches: dict[int, Running] = {}
        self._last_sent: Running | None = None
        """What the last frame was, if it was a batch."""
        self._late: frozenset[int] = frozenset()
        """Batches that it did not answer in time."""
        self._stopping: asyncio.TimerHandle | None = None
        self.is_asked = False
        """Whether it owes an answer to `ask`."""
        self.silent_since: float | None = None
        """Since when that is overdue, by the loop's clock."""
        self.is_taken_alone = False
        """Whether it has a suspect, which shares it with nobody."""
        self._threads: int | None = None

    @property
    def pid(self) -> int:
        """-1 until the process exists."""
        return self._process.pid if self._process else -1

    @property
    def pids(self) -> list[int]:
        """All processes it is known to consist of."""
        return self._process.pids if self._process else []

    @property
    def last_words(self) -> str:
        """The end of what it has printed on its stderr."""
        return self._process.last_words if self._process else ""

    @property
    def gpu_id(self) -> int | None:
        """Its first device."""
        return self.devices[0] if self.devices else None

    @property
    def in_flight(self) -> int:
        """How many batches it has."""
        return len(self._batches)

    @property
    def has_room(self) -> bool:
        """Whether it may be given another batch.

        A request that has seen workers die shares its worker with nobody.
        """
        return len(self._batches) < self._plan.max_in_flight and not self.is_taken_alone

    # --- life -------------------------------------------------------------------------------------

    async def start(self, supervisor: Supervisor) -> float | None:
        """Process, channel, model. The seconds that loading took; None: it is about to end.

        Raises:
            LoadFailed: with the cause.
        """
        gate = self._plan.load_gate
        if gate is None:
            return await self._start(supervisor)
        turn = gate.ask(self._plan.ref)
        try:
            await self._granted(turn)
            return await self._start(supervisor)
        finally:
            gate.leave(turn)

    async def _granted(self, turn: Turn) -> None:
        """Wait for its turn to load, or until it need not load any more."""
        await asyncio.wait((turn.granted, self._loaded), return_when=asyncio.FIRST_COMPLETED)

    async def _start(self, supervisor: Supervisor) -> float | None:
        if self._loaded.cancelled():
            return None
        limit_s = self._plan.startup_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                self._process = await self._spawn(supervisor)
                self._channel = await self._process.open_channel(
                    self._plan.max_frame_bytes, self._received, self._lost
                )
                self._channel.send(FrameKind.LOAD, self._load_message())
                await asyncio.wait((self._loaded,))
        except TimeoutError:
            raise LoadFailed(
                f"The model was not loaded within {limit_s:g} s (startup_timeout)."
            ) from None
        if self.is_told_to_stop or self._loaded.cancelled():
            self._process.kill()
            return None
        load_s = self._loaded.result()
        if isinstance(load_s, LoadFailed):
            raise load_s
        self.is_loaded = True
        return load_s

    async def _spawn(self, supervisor: Supervisor) -> WorkerProcess | LaunchedProcess:
        plan = self._plan
        if plan.launcher is not None:
            return await plan.launcher.start(
                supervisor, self.id, plan.ref, plan.python, self.devices, plan.confinement
            )
        return await supervisor.spawn(
            self.id, plan.ref, plan.preload, plan.python, confinement=plan.confinement
        )

    def _load_message(self) -> Load:
        self._threads = self._owner.threads
        load = msgspec.structs.replace(self._plan.load, threads=self._threads)
        if self._plan.is_shown_own_devices and self.devices:
            environ = load.environ | devices_environ(self.devices, os.environ)
            return msgspec.structs.replace(load, gpu_id=0, environ=environ)
        return msgspec.structs.replace(load, gpu_id=self.gpu_id)

    def use_threads(self, threads: int | None) -> None:
        """Compute with so many from the next batch on. While it loads it is not disturbed."""
        if threads is None or threads == self._threads or not self.is_loaded:
            return
        if self._channel is not None and not self.is_told_to_stop:
            self._threads = threads
            self._last_sent = None
            self._channel.send(FrameKind.THREADS, (threads,))

    async def end(self, error: Exception | None) -> None:
        """Wait until the process has ended, by itself or, after an `error`, because it must."""
        if error is not None:
            self.cause = error.message if isinstance(error, MarServeError) else str(error)
            self.is_out_of_memory = isinstance(error, LoadFailed) and error.out_of_memory
        if self._process is not None:
            if error is not None:
                self._killed_for = self._killed_for or Cause.LOAD_FAILED
                self._process.kill()
            self.status = await self._process.exited
            if self.cause is None:
                self.cause = describe_exit(self.status)
                self.is_out_of_memory = was_killed(self.status)
        elif error is not None:
            self._killed_for = Cause.LOAD_FAILED
        if self._channel is not None:
            await self._channel.drained()
            self._channel.close(None)
        if self._stopping is not None:
            self._stopping.cancel()
        for batch in self._batches.values():
            if batch.timer is not None:
                batch.timer.cancel()

    def ending(self, number: int, has_oom_evidence: bool) -> Ending:
        """How it ended; of use once it has."""
        cause = cause_of(self.status, self._killed_for, has_oom_evidence)
        return Ending(
            cause,
            self.cause or "stopped",
            number,
            is_of_load=not self.is_loaded,
            is_in_question=self._plan.may_retry and bool(self._batches),
            is_of_trial=self.is_taken_alone and bool(self._batches),
        )

    def stop(self) -> None:
        """End it: at once while it loads, else when its batch is done."""
        self.is_told_to_stop = True
        if not self._loaded.done():
            self._loaded.cancel()
            if self._channel is None and self._process is not None:
                self._process.kill()  # its ranks may be long in coming
        elif not self._batches:
            self.dismiss()

    def dismiss(self) -> None:
        """Tell an idle worker to end; kill it if it does not."""
        assert self._channel is not None
        self._channel.send(FrameKind.STOP, ())
        if self._stopping is None:
            self._stopping = self._loop.call_later(
                _STOP_GRACE_S, self.kill, "it did not stop when told to"
            )

    # --- whether it is there (heartbeat.Patient) --------------------------------------------------

    @property
    def may_be_asked(self) -> bool:
        """Whether it has loaded, shall go on, and has nothing to do."""
        return self.is_loaded and not self.is_told_to_stop and not self._batches

    def ask(self) -> None:
        """Have it answer, as it does between two batches."""
        assert self._channel is not None
        self.is_asked = True
        self._last_sent = None
        self._channel.send(FrameKind.PING, ())

    def fell_silent(self, limit_s: float) -> None:
        """End it: it has not answered for so long."""
        self._abort(f"it did not answer for {limit_s:g} s, and had nothing to do")

    def _answered_ask(self) -> None:
        self.is_asked = False
        was_silent, self.silent_since = self.silent_since is not None, None
        if was_silent:
            self._owner.on_heard(self)

    def kill(self, cause: str, why: Cause = Cause.REQUESTED) -> None:
        """End it now. Harmless when it has ended already."""
        if self._process is not None and not self._process.exited.done():
            self.cause = self.cause or cause
            self._killed_for = self._killed_for or why
            self._process.kill()

    def _abort(self, cause: str) -> None:
        """End it, but let it tell the model log first what it was doing."""
        if self._process is not None and not self._process.exited.done():
            self.cause = self.cause or cause
            self._killed_for = self._killed_for or Cause.HUNG
            self._process.abort()

    # --- batches ----------------------------------------------------------------------------------

    def give(
        self, batch_id: int, jobs: list[Job], now: float, known: int = 0, is_alone: bool = False
    ) -> None:
        """Run the handler over these; the owner hears of them exactly once, or takes them back.

        The first `known` jobs are in the handler's hands already: their parts are not sent again.
        `is_alone`: nothing else is given to the worker meanwhile.
        """
        batch = Running(batch_id, jobs, known, now, is_alone)
        self._batches[batch_id] = self._last_sent = batch
        if self._plan.response_timeout_s is not None:
            due = now + self._plan.response_timeout_s
            batch.timer = self._loop.call_at(due, self._timed_out, batch)
        items = [_item(job.request, [], True) for job in jobs[:known]]
        buffers: list[bytes] = []
        is_limited = False
        for job in jobs[known:] if known else jobs:
            job.attempts += 1
            job.dispatched_at = now
            if job.deadline is not None:
                is_limited = True
            request = job.request
            parts = []
            for name, kind, body in request.parts:
                parts.append((name, kind, len(body)))
                buffers.append(body)
            items.append(_item(request, parts, False))
        self.is_taken_alone = is_alone
        assert self._channel is not None
        if is_limited:
            left_s = [None if job.deadline is None else job.deadline - now for job in jobs]
            self._channel.send(FrameKind.BATCH, (batch_id, items, left_s), buffers)
        else:
            self._channel.send(FrameKind.BATCH, (batch_id, items), buffers)

    def unsent(self) -> frozenset[int]:
        """`id` of those jobs, of the ones it has, that never fully left for it."""
        if self.silent_since is not None:  # it would have answered `ask` before it began
            return frozenset(id(job) for batch in self._batches.values() for job in batch.jobs)
        batch = self._last_sent
        if batch is None or self._channel is None or not self._channel.has_unsent:
            return frozenset()
        return frozenset(id(job) for job in batch.jobs[batch.known :])

    def take_back(self) -> list[Job]:
        """The jobs that it cannot answer any more."""
        batches, self._batches = self._batches, {}
        return [job for batch in batches.values() for job in batch.jobs]

    def _timed_out(self, batch: Running) -> None:
        if self._batches.get(batch.id) is batch:
            self._late = frozenset(self._batches)
            jobs = self.take_back()
            self._abort(
                f"it did not answer within {self._plan.response_timeout_s:g} s (response_timeout)"
            )
            self._owner.on_late(self, jobs)

    # --- what the worker says ---------------------------------------------------------------------

    def _received(self, frame: Frame) -> None:
        match frame.kind:
            case FrameKind.RESULT:
                self._answered(frame)
            case FrameKind.PIECE:
                self._streamed(frame)
            case FrameKind.PONG if self.is_asked:
                self._answered_ask()
            case FrameKind.LOADED if not self._loaded.done():
                self._loaded.set_result(msgspec.msgpack.decode(frame.meta, type=Loaded).load_s)
            case FrameKind.LOAD_FAILED if not self._loaded.done():
                failed = msgspec.msgpack.decode(frame.meta, type=messages.LoadFailed)
                error = LoadFailed(failed.message)
                error.out_of_memory = failed.out_of_memory
                self._loaded.set_result(error)
            case _:
                self.kill(f"it sent {frame.kind.name}, which nobody expected", Cause.PROTOCOL)

    def _answered(self, frame: Frame) -> None:
        result = self._results.decode(frame.meta)
        batch = self._its_batch(result, frame)
        if batch is None:
            return
        del self._batches[batch.id]
        self.is_taken_alone = False
        if batch.timer is not None:
            batch.timer.cancel()
        self._owner.on_result(self, batch, result, frame.buffers)

    def _streamed(self, frame: Frame) -> None:
        result = self._results.decode(frame.meta)
        if result.id not in self._batches:
            return  # from a thread that the handler left behind: the batch has had its answer
        batch = self._its_batch(result, frame)
        if batch is None:
            return
        if batch.timer is not None and self._plan.response_timeout_s is not None:
            batch.timer.cancel()  # each piece restarts the clock
            due = time.monotonic() + self._plan.response_timeout_s
            batch.timer = self._loop.call_at(due, self._timed_out, batch)
        jobs = batch.jobs[result.first : result.first + len(result.sizes_bytes)]
        self._owner.on_piece(jobs, result, frame.buffers)

    def _its_batch(self, result: Result, frame: Frame) -> Running | None:
        """The batch that a result belongs to; a worker that makes one up is ended."""
        batch = self._batches.get(result.id)
        if batch is None and result.id in self._late:
            Job.late_answers += len(result.sizes_bytes)  # it is being killed for that
            return None
        if batch is None or not _fits(batch, result, frame):
            self.kill("its answer does not belong to its batch", Cause.PROTOCOL)
            return None
        return batch

    def _lost(self, reason: str | None) -> None:
        """The channel has ended: so has the process, or it must. Hanging up is no cause."""
        self.cause = self.cause or reason
        if not self._loaded.done():
            self._loaded.cancel()
        if self._process is None:
            return
        if reason is not None:
            is_plain = self._plan.launcher is None
            self._killed_for = self._killed_for or (Cause.PROTOCOL if is_plain else Cause.CRASHED)
            self._process.kill()
        else:  # killed at once, it could not be told from one that somebody else has killed
            why = "it closed its channel"
            self._loop.call_later(_HANG_UP_S, self.kill, why, Cause.PROTOCOL)


def _fits(batch: Running, result: Result, frame: Frame) -> bool:
    """Whether a result has an answer for each job, or a piece for some of them, and no more."""
    count, most = len(result.sizes_bytes), len(batch.jobs)
    is_piece = frame.kind is FrameKind.PIECE
    is_right = result.first + count <= most if is_piece else count == most
    return is_right and sum(result.sizes_bytes) == len(frame.buffers)


def _item(
    request: Request, parts: list[tuple[str, str, int]], is_known: bool
) -> tuple[object, ...]:
    """A `messages.BatchItem`, as plain as it can be encoded."""
    return (
        request.id,
        request.headers,
        parts,
        request.explain,
        request.url_path,
        request.describe,
        is_known,
    )
