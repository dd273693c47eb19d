"""One serving version: its queue and its workers, joined.

Admits requests, lets the batcher feed the pool, and ends both in order. All methods run on the
event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from marserve.batching.admission import Load, Refusal, refusal, retry_after_s
from marserve.batching.batcher import Batcher
from marserve.batching.window import Limits
from marserve.errors import MarServeError, NoWorkers, QueueFull, ShuttingDown
from marserve.events import Bus, QueueChanged
from marserve.model_version import Description, Settings, VersionState
from marserve.refs import ModelRef
from marserve.request import Job
from marserve.workers.pool import Pool
from marserve.workers.supervisor import Supervisor
from marserve.workers.worker import WorkerPlan

MAX_WAITING_BYTES = 256 * 1024 * 1024
"""What the bodies of all waiting requests of one version may take."""
_KILL_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a version came from."""

    ref: ModelRef
    url: str
    loaded_at_startup: bool


class Deployment:
    """Owns the queue and the workers of one version."""

    def __init__(
        self,
        origin: Origin,
        settings: Settings,
        plan: WorkerPlan,
        supervisor: Supervisor,
        bus: Bus,
        new_worker_id: Callable[[], str],
    ) -> None:
        self.ref = origin.ref
        self.settings = settings
        self._origin = origin
        self._bus = bus
        self._closing = False
        self._rate = 0.0
        self._emptied = asyncio.Event()
        self._running = 0
        self._pool = Pool(plan, supervisor, bus, new_worker_id, self)
        self._batcher = Batcher(
            Limits(settings.batch_size, settings.max_batch_delay_ms / 1000.0),
            settings.response_timeout_s,
            has_idle=lambda: self._pool.has_idle,
            send=self._send,
            on_depth=self._depth_changed,
        )

    # --- requests ---------------------------------------------------------------------------------

    def submit(self, job: Job, version_named: str | None) -> None:
        """Take a request; its job is resolved exactly once.

        Raises:
            NoWorkers, QueueFull, ShuttingDown: it is not taken.
        """
        refused = refusal(
            Load(
                self._batcher.depth,
                self.settings.queue_size,
                self._batcher.waiting_bytes,
                MAX_WAITING_BYTES,
                self._pool.wanted,
                self._pool.is_hopeless,
                self._closing,
            )
        )
        if refused is not None:
            raise self._refusal(refused, version_named)
        self._batcher.submit(job)

    def _refusal(self, reason: Refusal, version_named: str | None) -> MarServeError:
        match reason:
            case Refusal.QUEUE_FULL:
                depth = self._batcher.depth
                return QueueFull(self.ref.name, depth, retry_after_s(depth, self._rate))
            case Refusal.NO_WORKERS:
                cause = self._pool.last_error if self._pool.is_hopeless else None
                return NoWorkers(self.ref.name, version_named, cause)
            case Refusal.CLOSING:
                return ShuttingDown(f'Model "{self.ref.name}" is being unloaded.')

    def _send(self, jobs: list[Job]) -> None:
        self._running += len(jobs)
        self._pool.send(jobs)

    # --- what the pool says (workers.pool.Listener) -----------------------------------------------

    def on_idle(self) -> None:
        """A worker is free."""
        self._batcher.pump()

    def on_answered(self, size: int, took_s: float) -> None:
        """A batch came back; its jobs are being resolved."""
        self._running -= size
        self._rate += 0.1 * (size / max(took_s, 1e-6) - self._rate)
        self._batcher.answered(size, took_s)
        self._check_emptied()

    def on_lost(self, jobs: list[Job], cause: str) -> None:
        """A worker died with these jobs."""
        self._running -= len(jobs)
        self._batcher.lost(jobs, cause)
        if self._pool.wanted == 0:
            self._batcher.fail_all(NoWorkers(self.ref.name, None))
        self._check_emptied()

    def on_hopeless(self, cause: str) -> None:
        """No worker serves, and the last ones could not load: nobody should wait for them."""
        self._batcher.fail_all(NoWorkers(self.ref.name, None, cause))
        self._check_emptied()

    # --- life -------------------------------------------------------------------------------------

    def scale(self, min_workers: int, max_workers: int) -> None:
        """Have at least `min_workers`, at most `max_workers`; a count between them stays."""
        self.settings = replace(self.settings, min_workers=min_workers, max_workers=max_workers)
        self._pool.scale(min(max(self._pool.wanted, min_workers), max_workers))
        if self._pool.wanted == 0 and not self._closing:
            self._batcher.fail_all(NoWorkers(self.ref.name, None))

    async def settled(self) -> None:
        """Wait until all wanted workers are ready.

        Raises:
            LoadFailed: one cannot load, with the cause.
        """
        await self._pool.settled()

    @property
    def ready_workers(self) -> int:
        """How many workers can take a batch."""
        return self._pool.ready

    @property
    def is_failing(self) -> bool:
        """Whether workers are missing because they die or cannot load."""
        return self._pool.is_failing and self._pool.ready < self.settings.min_workers

    async def close(self, grace_s: float) -> None:
        """Take nothing new, answer what was taken, end the workers; at the latest after `grace_s`.

        What could not be answered by then gets ShuttingDown.
        """
        self._closing = True
        self._check_emptied()
        if self._pool.wanted > 0:
            try:
                await asyncio.wait_for(self._emptied.wait(), grace_s)
            except TimeoutError:
                self._batcher.fail_all(ShuttingDown("The model was unloaded before its turn came."))
        await self._pool.close(_KILL_GRACE_S)
        self._batcher.fail_all(ShuttingDown("The model was unloaded before its turn came."))
        self._batcher.close()

    def describe(self, is_default: bool) -> Description:
        """The version at this moment."""
        workers = self._pool.describe()
        return Description(
            ref=self.ref,
            url=self._origin.url,
            is_default=is_default,
            state=self._state(),
            settings=self.settings,
            loaded_at_startup=self._origin.loaded_at_startup,
            workers=workers,
            pending_requests=self._batcher.depth,
            last_error=self._pool.last_error,
        )

    def _state(self) -> VersionState:
        if self._closing:
            return VersionState.DRAINING
        if self._pool.ready >= min(1, self.settings.min_workers):
            return VersionState.READY
        return VersionState.FAILED if self._pool.is_failing else VersionState.LOADING

    def _depth_changed(self, depth: int) -> None:
        self._bus.publish(QueueChanged(self.ref, depth))
        if depth == 0:
            self._check_emptied()

    def _check_emptied(self) -> None:
        if self._closing and self._running == 0 and self._batcher.depth == 0:
            self._emptied.set()
