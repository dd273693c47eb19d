"""Takes requests for one version into its queue, or refuses them.

Owns whether the version still takes any. The rules are in `batching/admission.py`; here is what
they are asked about, and what a refused client is told. All methods run on the event loop.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from marserve.batching.admission import Load, Refusal, refusal, retry_after_s
from marserve.batching.batcher import Batcher
from marserve.batching.sequence_batcher import SequenceBatcher
from marserve.errors import (
    CrashLooping,
    DeadlineExceeded,
    MarServeError,
    NoJobTicket,
    NoWorkers,
    QueueFull,
    ShuttingDown,
)
from marserve.model_version import Settings
from marserve.refs import ModelRef
from marserve.request import Job
from marserve.workers.pool import Pool
from marserve.workers.restarts import Standing

MAX_WAITING_BYTES = 256 * 1024 * 1024
"""What the bodies of all waiting requests of one version may take."""


class Intake:
    """The way into one version's queue."""

    is_closed = False
    """Whether nothing is taken any more; set once, by the version that ends."""

    def __init__(
        self,
        ref: ModelRef,
        settings: Settings,
        batcher: Batcher | SequenceBatcher,
        pool: Pool,
        on_asleep: Callable[[], None],
    ) -> None:
        """`on_asleep`: a request was taken although no worker is wanted."""
        self.settings = settings
        """Replaced whenever the version's are."""
        self._ref = ref
        self._batcher = batcher
        self._pool = pool
        self._on_asleep = on_asleep
        self._rate = 0.0
        self._is_plain = not (settings.use_job_ticket or settings.client_timeout_ms)
        self._loop = asyncio.get_running_loop()

    def submit(self, job: Job, version_named: str | None) -> None:
        """Take a request; its job is resolved exactly once.

        Raises:
            NoWorkers, QueueFull, NoJobTicket, SequenceRefused, ShuttingDown, CrashLooping,
            PoisonRequestRefused: it is not taken.
        """
        batcher = self._batcher
        if not (
            self._is_plain
            and self._pool.is_serving
            and not self.is_closed
            and batcher.depth < self.settings.queue_size
            and batcher.waiting_bytes < MAX_WAITING_BYTES
        ):
            self._check(version_named)
        batcher.submit(job)
        if not self._is_plain or not self._pool.is_serving:
            self._admitted(job)

    def answered(self, count: int, took_s: float) -> None:
        """A batch of `count` came back after `took_s`: so fast does the queue drain."""
        self._rate += 0.1 * (count / max(took_s, 1e-6) - self._rate)

    def _check(self, version_named: str | None) -> None:
        probe_in_s = self._pool.probe_in_s
        if probe_in_s is not None and self._pool.standing is Standing.CRASH_LOOP:
            raise CrashLooping(
                self._ref.name,
                self._ref.version,
                self._pool.last_error,
                max(1, math.ceil(probe_in_s)),
            )
        refused = refusal(
            Load(
                self._batcher.depth,
                self.settings.queue_size,
                self._batcher.waiting_bytes,
                MAX_WAITING_BYTES,
                self._pool.wanted or self.settings.max_workers,
                self._pool.is_hopeless,
                self.is_closed,
                self._tickets if self.settings.use_job_ticket else None,
            )
        )
        if refused is not None:
            raise self._refusal(refused, version_named)

    def _admitted(self, job: Job) -> None:
        limit_s = self.settings.client_timeout_ms / 1000.0
        if limit_s and (job.deadline is None or job.queued_at + limit_s < job.deadline):
            if job.time_limit is not None:
                job.time_limit.cancel()
            job.time_limit = self._loop.call_later(limit_s, self._time_out, job)
        if self._pool.wanted == 0:
            self._on_asleep()

    @property
    def _tickets(self) -> int:
        """How many workers wait for work that nobody waits to give them."""
        return len(self._pool.idle) - self._batcher.depth

    def _time_out(self, job: Job) -> None:
        """End a wait that is longer than the archive allows its clients."""
        job.resolve(
            DeadlineExceeded(
                f"There was no answer within {self.settings.client_timeout_ms} ms "
                "(clientTimeoutInMills)."
            )
        )

    def _refusal(self, reason: Refusal, version_named: str | None) -> MarServeError:
        match reason:
            case Refusal.QUEUE_FULL:
                depth = self._batcher.depth
                return QueueFull(self._ref.name, depth, retry_after_s(depth, self._drained_per_s))
            case Refusal.NO_WORKERS:
                cause = self._pool.last_error if self._pool.is_hopeless else None
                return NoWorkers(self._ref.name, version_named, cause)
            case Refusal.NO_TICKET:
                return NoJobTicket(
                    f'Model "{self._ref.name}" takes requests only while a worker waits for one '
                    "(useJobTicket), and all are busy. Try again later, or use scale workers API "
                    "to add workers."
                )
            case Refusal.CLOSING:
                return ShuttingDown(f'Model "{self._ref.name}" is being unloaded.')

    @property
    def _drained_per_s(self) -> float:
        """How many requests a second leave the queue while it is long."""
        if isinstance(self._batcher, Batcher):
            fixed_s, each_s, limit = self._batcher.learned()
            if fixed_s + each_s > 0.0:
                return self._pool.ready * limit / (fixed_s + each_s * limit)
        return self._rate
