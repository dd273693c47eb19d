"""Takes requests for one version into its queue, or refuses them.

Owns whether the version still takes any. The rules are in `batching/admission.py`; here is what
they are asked about, and what a refused client is told. All methods run on the event loop.

A request that finds a worker serving and much room costs four comparisons. Whatever could speak
against it is folded into these beforehand: see `_look_again`.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from marserve.batching.admission import (
    GIVES_WAY,
    Load,
    Refusal,
    expected_wait_s,
    refusal,
    retry_after_s,
)
from marserve.batching.batcher import Batcher
from marserve.batching.quota import Quota
from marserve.batching.sequence_batcher import SequenceBatcher
from marserve.errors import (
    CrashLooping,
    DeadlineExceeded,
    DeadlineUnreachable,
    MarServeError,
    MemoryLow,
    NoJobTicket,
    NoWorkers,
    QueueBytesFull,
    QueueFull,
    QuotaExceeded,
    Shed,
    ShuttingDown,
)
from marserve.headroom import Headroom
from marserve.model_version import Settings
from marserve.refs import ModelRef
from marserve.request import Job
from marserve.workers.pool import Pool
from marserve.workers.restarts import Standing

MAX_WAITING_BYTES: Final = 256 * 1024 * 1024
"""What the bodies of all waiting requests of one version may take."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What limits the requests of all versions together."""

    headroom: Headroom
    quota: Quota | None = None
    """How many requests one client may send; None: any number."""


class Intake:
    """The way into one version's queue."""

    def __init__(
        self,
        ref: ModelRef,
        settings: Settings,
        batcher: Batcher | SequenceBatcher,
        pool: Pool,
        shared: Shared,
        lanes: int,
        on_asleep: Callable[[], None],
        on_shed: Callable[[int], None],
    ) -> None:
        """How requests come in.

        `lanes`: how many batches a worker runs at a time; 0: how long they take says nothing about
        how long requests wait. `on_asleep`: a request was taken although no worker is wanted.
        `on_shed`: so many gave way to others.
        """
        self.is_closed = False
        """Whether nothing is taken any more; see `close`."""
        self._settings = settings
        self._ref = ref
        self._batcher = batcher
        self._pool = pool
        self._headroom = shared.headroom
        self._quota = shared.quota
        self._lanes = lanes
        self._on_asleep = on_asleep
        self._on_shed = on_shed
        self._rate = 0.0
        self._is_plain = not (settings.use_job_ticket or settings.client_timeout_ms or self._quota)
        self._loop = asyncio.get_running_loop()
        self._is_memory_low = False
        self._ample_depth = self._unasked_bytes = 0
        self._headroom.join(self)

    def submit(self, job: Job, version_named: str | None) -> None:
        """Take a request; its job is resolved exactly once.

        Raises:
            NoWorkers, QueueFull, QueueBytesFull, NoJobTicket, SequenceRefused, ShuttingDown,
            DeadlineUnreachable, MemoryLow, QuotaExceeded, CrashLooping, PoisonRequestRefused: it is
            not taken.
        """
        batcher = self._batcher
        if (
            batcher.depth < self._ample_depth
            and batcher.waiting_bytes < self._unasked_bytes
            and job.deadline is None
            and self._pool.is_serving
        ):
            batcher.submit(job)
        else:
            self._consider(job, version_named)

    # --- what others tell -------------------------------------------------------------------------

    def answered(self, count: int, took_s: float) -> None:
        """A batch of `count` came back after `took_s`: so fast does the queue drain."""
        self._rate += 0.1 * (count / max(took_s, 1e-6) - self._rate)

    def scaled(self, settings: Settings) -> None:
        """The version has other settings now."""
        self._settings = settings
        self._look_again()

    def close(self) -> None:
        """Take nothing any more."""
        self.is_closed = True
        self._headroom.leave(self)
        self._look_again()

    @property
    def waiting_bytes(self) -> int:
        """What the bodies of waiting requests take."""
        return self._batcher.waiting_bytes

    def allot(self, unasked_bytes: int, is_memory_low: bool) -> None:
        """See `headroom.Member`."""
        self._unasked_bytes = min(MAX_WAITING_BYTES, unasked_bytes)
        self._is_memory_low = is_memory_low
        self._look_again()

    def _look_again(self) -> None:
        """How many may wait without a question; 0: each is asked about."""
        is_ample = self._is_plain and not self.is_closed and not self._is_memory_low
        self._ample_depth = self._settings.queue_size if is_ample else 0

    # --- one that is asked about ------------------------------------------------------------------

    def _consider(self, job: Job, version_named: str | None) -> None:
        load = self._load(job)
        refused = refusal(load)
        rival = None
        if refused is not None:
            rival = self._rival(job, load) if refused in GIVES_WAY else None
            if rival is None:
                raise self._error(refused, load, version_named)
        self._batcher.submit(job)
        self._limit(job)
        if self._quota is not None:
            self._quota.spend(job.client, job.queued_at)
        if self._pool.wanted == 0:
            self._on_asleep()
        if rival is not None:  # it leaves as it is answered; last, as it may ask again at once
            self._on_shed(1)
            rival.resolve(self._shed())

    def _load(self, job: Job) -> Load:
        batcher, pool, quota = self._batcher, self._pool, self._quota
        wait_s, least_s = (0.0, 0.0) if job.deadline is None else self._wait_s(job)
        return Load(
            depth=batcher.depth,
            depth_limit=self._settings.queue_size,
            waiting_bytes=batcher.waiting_bytes,
            waiting_bytes_limit=min(MAX_WAITING_BYTES, self._headroom.limit_for(self)),
            workers_wanted=pool.wanted or self._settings.max_workers,
            is_hopeless=pool.is_hopeless,
            is_closing=self.is_closed,
            tickets=self._tickets if self._settings.use_job_ticket else None,
            left_s=math.inf if job.deadline is None else job.deadline - self._loop.time(),
            wait_s=wait_s,
            least_s=least_s,
            is_memory_low=self._is_memory_low,
            quota_wait_s=0.0 if quota is None else quota.wait_s(job.client, job.queued_at),
            retry_after_s=pool.probe_in_s,
            is_crash_looping=pool.standing is Standing.CRASH_LOOP,
        )

    def _wait_s(self, job: Job, without: int = 0) -> tuple[float, float]:
        """After how long a worker should take it, and what it takes at least; 0: not known.

        `without`: so many of those before it go away.
        """
        batcher, pool = self._batcher, self._pool
        if not isinstance(batcher, Batcher) or not self._lanes:
            return 0.0, 0.0
        fixed_s, each_s, limit = batcher.learned()
        ahead = max(0, batcher.ahead_of(job.priority) - without)
        lanes = pool.ready * self._lanes
        wait_s = expected_wait_s(
            *(ahead, limit, fixed_s + each_s * limit, lanes, pool.has_idle),
            slow_batch_s=batcher.slow_s(limit),
        )
        return wait_s, batcher.slow_s(min(limit, ahead + 1) if wait_s else 1)

    def _rival(self, job: Job, load: Load) -> Job | None:
        """The request in whose place this one may be taken."""
        if not isinstance(self._batcher, Batcher):
            return None
        rival = self._batcher.rival(job)
        if rival is None:
            return None
        wait_s = load.wait_s
        if wait_s and rival.priority <= job.priority:
            wait_s, _ = self._wait_s(job, without=1)
        in_its_place = load._replace(
            depth=load.depth - 1,
            waiting_bytes=load.waiting_bytes - rival.request.size_bytes,
            wait_s=wait_s,
        )
        return rival if refusal(in_its_place) is None else None

    def _limit(self, job: Job) -> None:
        """End the wait by the time that the archive allows its clients."""
        limit_s = self._settings.client_timeout_ms / 1000.0
        if limit_s and (job.deadline is None or job.queued_at + limit_s < job.deadline):
            if job.time_limit is not None:
                job.time_limit.cancel()
            job.time_limit = self._loop.call_later(limit_s, self._time_out, job)

    @property
    def _tickets(self) -> int:
        """How many workers wait for work that nobody waits to give them."""
        return len(self._pool.idle) - self._batcher.depth

    def _time_out(self, job: Job) -> None:
        """End a wait that is longer than the archive allows its clients."""
        job.resolve(
            DeadlineExceeded(
                f"There was no answer within {self._settings.client_timeout_ms} ms "
                "(clientTimeoutInMills)."
            )
        )

    # --- what a refused client is told ------------------------------------------------------------

    def _error(self, reason: Refusal, load: Load, version_named: str | None) -> MarServeError:
        name = self._ref.name
        match reason:
            case Refusal.QUEUE_FULL:
                return QueueFull(name, load.depth, self._retry_after_s())
            case Refusal.QUEUE_BYTES:
                return QueueBytesFull(name, load.waiting_bytes, self._retry_after_s())
            case Refusal.NO_WORKERS:
                return self._no_workers(load, version_named)
            case Refusal.DEADLINE_UNREACHABLE:
                return DeadlineUnreachable(
                    "The request would not be answered within the time that its client gave it: "
                    f"{max(0.0, load.left_s) * 1000.0:.3g} ms are left, and it would take about "
                    f"{(load.wait_s + load.least_s) * 1000.0:.3g} ms."
                )
            case Refusal.MEMORY:
                return MemoryLow(self._headroom.floor_bytes, self._retry_after_s())
            case Refusal.QUOTA:
                assert self._quota is not None
                return QuotaExceeded(self._quota.per_s, math.ceil(load.quota_wait_s))
            case Refusal.NO_TICKET:
                return NoJobTicket(
                    f'Model "{name}" takes requests only while a worker waits for one '
                    "(useJobTicket), and all are busy. Try again later, or use scale workers API "
                    "to add workers.",
                    self._retry_after_s(),
                )
            case Refusal.CLOSING:
                return ShuttingDown(f'Model "{name}" is being unloaded.')

    def _no_workers(self, load: Load, version_named: str | None) -> MarServeError:
        cause, ref = self._pool.last_error, self._ref
        again_s = max(1, math.ceil(load.retry_after_s or 0.0))
        if load.is_crash_looping and load.retry_after_s is not None:
            return CrashLooping(ref.name, ref.version, cause, again_s)
        if load.is_hopeless:
            return NoWorkers(ref.name, version_named, cause, retry_after_s=again_s)
        return NoWorkers(ref.name, version_named)

    def _shed(self) -> Shed:
        return Shed(
            f'The request gave its place in the queue of model "{self._ref.name}" to one that is '
            "more urgent, or whose client has fewer waiting. Try again later.",
            self._retry_after_s(),
        )

    def _retry_after_s(self) -> int:
        roll = random.random()  # noqa: S311  spreads clients, keeps no secret
        return retry_after_s(self._batcher.depth, self._drained_per_s, roll)

    @property
    def _drained_per_s(self) -> float:
        """How many requests a second leave the queue while it is long."""
        if isinstance(self._batcher, Batcher):
            fixed_s, each_s, limit = self._batcher.learned()
            if fixed_s + each_s > 0.0:
                return self._pool.ready * limit / (fixed_s + each_s * limit)
        return self._rate
