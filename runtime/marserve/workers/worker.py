"""One worker: its process, its channel, and the batch it runs.

Owned by a pool, which decides when it starts and stops and learns what becomes of its batches.
A worker runs one batch at a time; its answer counts only if it belongs to exactly that batch.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

import msgspec

from marserve.errors import LoadFailed, MarServeError
from marserve.refs import ModelRef
from marserve.request import Job
from marserve.workers import messages
from marserve.workers.channel import Channel
from marserve.workers.frames import Frame
from marserve.workers.messages import FrameKind, Load, Loaded, Result
from marserve.workers.supervisor import Supervisor, WorkerProcess, describe_exit

_STOP_GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What every worker of a version is started with."""

    ref: ModelRef
    load: Load
    preload: tuple[str, ...]
    startup_timeout_s: float
    response_timeout_s: float
    max_frame_bytes: int


class Owner(Protocol):
    """Who learns what became of a batch."""

    def on_result(
        self, worker: Worker, jobs: list[Job], result: Result, buffers: memoryview
    ) -> None:
        """The batch came back; the worker is free again."""

    def on_late(self, worker: Worker, jobs: list[Job]) -> None:
        """The batch did not come back in time; the worker is being killed."""


class Worker:
    """One life of one worker. All methods run on the event loop."""

    def __init__(self, id_: str, restarts: int, plan: WorkerPlan, owner: Owner) -> None:
        self.id = id_
        self.restarts = restarts
        self.started_at = time.time()
        self.dispatched_at = 0.0
        self.is_told_to_stop = False
        self.is_loaded = False
        self.cause: str | None = None
        """Why it ended, once it has; the first reason counts."""
        self._plan = plan
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[float | LoadFailed] = self._loop.create_future()
        self._process: WorkerProcess | None = None
        self._channel: Channel | None = None
        self._results = msgspec.msgpack.Decoder(Result)
        self._batch_id = 0
        self._jobs: list[Job] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """-1 until the process exists."""
        return self._process.pid if self._process else -1

    # --- life -------------------------------------------------------------------------------------

    async def start(self, supervisor: Supervisor) -> float | None:
        """Process, channel, model. The seconds that loading took; None: it is about to end.

        Raises:
            LoadFailed: with the cause.
        """
        limit_s = self._plan.startup_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                self._process = await supervisor.spawn(self.id, self._plan.preload)
                _, self._channel = await self._loop.create_connection(
                    lambda: Channel(self._plan.max_frame_bytes, self._received, self._lost),
                    sock=self._process.channel,
                )
                self._channel.send(FrameKind.LOAD, self._plan.load)
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

    async def end(self, error: Exception | None) -> None:
        """Wait until the process has ended, by itself or, after an `error`, because it must."""
        if error is not None:
            self.cause = error.message if isinstance(error, MarServeError) else str(error)
        if self._process is not None:
            if error is not None:
                self._process.kill()
            status = await self._process.exited
            self.cause = self.cause or describe_exit(status)
        if self._channel is not None:
            await self._channel.drained()
            self._channel.close(None)
        if self._timer is not None:
            self._timer.cancel()

    def stop(self) -> None:
        """End it: at once while it loads, else when its batch is done."""
        self.is_told_to_stop = True
        if not self._loaded.done():
            self._loaded.cancel()
        elif not self._jobs:
            self.dismiss()

    def dismiss(self) -> None:
        """Tell an idle worker to end; kill it if it does not."""
        assert self._channel is not None
        self._channel.send(FrameKind.STOP, ())
        self._timer = self._loop.call_later(
            _STOP_GRACE_S, self.kill, "it did not stop when told to"
        )

    def kill(self, cause: str) -> None:
        """End it now. Harmless when it has ended already."""
        if self._process is not None and not self._process.exited.done():
            self.cause = self.cause or cause
            self._process.kill()

    # --- batches ----------------------------------------------------------------------------------

    def give(self, batch_id: int, jobs: list[Job], now: float) -> None:
        """Run the handler over these; the owner hears of them exactly once, or takes them back."""
        self._batch_id = batch_id
        self._jobs = jobs
        self.dispatched_at = now
        self._timer = self._loop.call_at(
            now + self._plan.response_timeout_s, self._timed_out, batch_id
        )
        items = []
        buffers = []
        for job in jobs:
            job.attempts += 1
            job.dispatched_at = now
            request = job.request
            parts = [(name, kind, len(body)) for name, kind, body in request.parts]
            buffers += [part[2] for part in request.parts]
            items.append(
                (
                    request.id,
                    request.headers,
                    parts,
                    request.explain,
                    request.url_path,
                    request.describe,
                )
            )
        assert self._channel is not None
        self._channel.send(FrameKind.BATCH, (batch_id, items), buffers)

    def take_back(self) -> list[Job]:
        """The jobs that it cannot answer any more."""
        jobs, self._jobs = self._jobs, []
        return jobs

    def _timed_out(self, batch_id: int) -> None:
        if self._batch_id == batch_id and self._jobs:
            jobs = self.take_back()
            self.kill(
                f"it did not answer within {self._plan.response_timeout_s:g} s (response_timeout)"
            )
            self._owner.on_late(self, jobs)

    # --- what the worker says ---------------------------------------------------------------------

    def _received(self, frame: Frame) -> None:
        match frame.kind:
            case FrameKind.RESULT:
                self._answered(frame)
            case FrameKind.LOADED if not self._loaded.done():
                self._loaded.set_result(msgspec.msgpack.decode(frame.meta, type=Loaded).load_s)
            case FrameKind.LOAD_FAILED if not self._loaded.done():
                failed = msgspec.msgpack.decode(frame.meta, type=messages.LoadFailed)
                self._loaded.set_result(LoadFailed(failed.message))
            case _:
                self.kill(f"it sent {frame.kind.name}, which nobody expected")

    def _answered(self, frame: Frame) -> None:
        result = self._results.decode(frame.meta)
        sizes = result.sizes_bytes
        is_ours = result.id == self._batch_id and self._jobs and len(sizes) == len(self._jobs)
        if not is_ours or sum(sizes) != len(frame.buffers):
            self.kill("its answer does not belong to its batch")
            return
        if self._timer is not None:
            self._timer.cancel()
        self._owner.on_result(self, self.take_back(), result, frame.buffers)

    def _lost(self, reason: str | None) -> None:
        """The channel has ended: so has the process, or it must. Hanging up is no cause."""
        self.cause = self.cause or reason
        if not self._loaded.done():
            self._loaded.cancel()
        if self._process is not None:
            self._process.kill()
