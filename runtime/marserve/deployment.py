"""One serving version: its queue and its workers, joined.

Lets requests in (`intake.py`), lets the batcher feed the pool, and ends both in order. All methods
run on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from marserve.batching.batcher import Batcher
from marserve.batching.retry import Loss
from marserve.batching.sequence_batcher import SequenceBatcher
from marserve.batching.sequences import SequenceLimits
from marserve.batching.suspects import Court, Lane, Verdict
from marserve.batching.window import Limits
from marserve.errors import NoWorkers, ShuttingDown
from marserve.events import (
    BatchFormed,
    Bus,
    QueueChanged,
    RequestConvicted,
    RequestsDropped,
    RequestsRetried,
)
from marserve.intake import Intake, Shared
from marserve.model_version import Description, Settings, VersionState
from marserve.refs import ModelRef
from marserve.request import Job
from marserve.workers.causes import Ending
from marserve.workers.pool import Pool
from marserve.workers.restarts import Standing
from marserve.workers.scaling import Demand, Scaler, ScalingLimits
from marserve.workers.supervisor import Supervisor
from marserve.workers.worker import WorkerPlan

_log = logging.getLogger("marserve.workers")
FIFO = "fifo"
ADAPTIVE_LIFO = "adaptive_lifo"
KILL_GRACE_S: Final = 5.0
"""How long workers may go on with what nobody waits for any more."""
_LONGEST_SCALING_STEP_S = 1.0


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
        shared: Shared,
        queue_discipline: str = FIFO,
    ) -> None:
        self.ref = origin.ref
        self.settings = settings
        self._origin = origin
        self._bus = bus
        self._emptied = asyncio.Event()
        self._running = 0
        self._loop = asyncio.get_running_loop()
        self._scaler: Scaler | None = None
        self._scaling: asyncio.TimerHandle | None = None
        self._most_workers = plan.most_workers
        self._launcher = plan.launcher
        self._depth_is_told = True
        self._pool = Pool(plan, supervisor, bus, new_worker_id, self)
        self._batcher = self._make_batcher(plan, queue_discipline)
        self._intake = Intake(
            self.ref,
            settings,
            self._batcher,
            self._pool,
            shared,
            0 if plan.round_size is not None else plan.max_in_flight,
            on_asleep=self._rescale,
            on_shed=self._gave_way,
        )
        self.submit: Callable[[Job, str | None], None] = self._intake.submit
        """`Intake.submit`: takes a request, or raises why it does not."""

    def _make_batcher(self, plan: WorkerPlan, queue_discipline: str) -> Batcher | SequenceBatcher:
        settings = self.settings
        if plan.sequence_headers is None:
            return Batcher(
                Limits(
                    settings.batch_size,
                    settings.max_batch_delay_ms / 1000.0,
                    settings.max_batch_bytes or None,
                    sheds=queue_discipline != FIFO,
                    newest_first=queue_discipline == ADAPTIVE_LIFO,
                ),
                settings.response_timeout_s,
                has_idle=lambda: self._pool.has_idle,
                send=self._send,
                on_depth=self._depth_changed,
                idle=lambda: self._pool.idle_count,
                on_late=self._came_too_late,
                on_shed=self._gave_way,
                lane=Lane(
                    lambda: self._pool.place_for_suspect(),
                    lambda: self._pool.ready < 2,
                    self._send_alone,
                    lambda: self._pool.release_suspects(),
                    has_crowds=plan.max_in_flight > 1,
                ),
                court=Court(str(self.ref), settings.idempotent, self._retried, self._convicted),
            )
        return SequenceBatcher(
            SequenceLimits(
                sequences=settings.max_sequences,
                per_worker=_share(settings),
                waiting=settings.sequence_queue_size,
                idle_s=settings.sequence_max_idle_ms / 1000.0,
                total_s=settings.sequence_timeout_ms / 1000.0,
            ),
            plan.sequence_headers,
            plan.round_size or settings.batch_size,
            settings.response_timeout_s,
            idle_workers=lambda: self._pool.idle,
            send_to=self._send_to,
            on_depth=self._depth_changed,
        )

    # --- requests ---------------------------------------------------------------------------------

    def _came_too_late(self, count: int) -> None:
        self._bus.publish(RequestsDropped(self.ref, count, "deadline"))

    def _gave_way(self, count: int) -> None:
        self._bus.publish(RequestsDropped(self.ref, count, "shedding"))

    def describe_itself(self, job: Job) -> None:
        """Have the handler describe itself; its answer resolves the job, which is never batched.

        Raises:
            NoWorkers: no worker is there to ask.
        """
        if not self._pool.ready:
            raise NoWorkers(self.ref.name, None, purpose="describe")
        self._batcher.submit_alone(job)

    def _send(self, jobs: list[Job]) -> None:
        self._running += len(jobs)
        self._pool.send(jobs)
        batcher = self._batcher
        if isinstance(batcher, Batcher):
            self._bus.publish(BatchFormed(self.ref, len(jobs), batcher.held_s, batcher.learned()))
        if self._scaler is not None:
            self._scaler.saw(self._pool.busy)

    def _send_to(self, worker: str, jobs: list[Job]) -> None:
        self._running += len(jobs)
        self._pool.send_to(worker, jobs)
        if self._scaler is not None:
            self._scaler.saw(self._pool.busy)

    def _send_alone(self, worker: str, jobs: list[Job]) -> None:
        self._running += len(jobs)
        self._pool.send_alone(worker, jobs)
        if self._scaler is not None:
            self._scaler.saw(self._pool.busy)

    def _retried(self, together: int, alone: int) -> None:
        self._bus.publish(RequestsRetried(self.ref, together + alone, alone))
        if alone:
            _log.warning("%s: %d request(s) of a worker that died run alone now", self.ref, alone)

    def _convicted(self, verdict: Verdict) -> None:
        _log.error(
            "Incident %s: request %s of %s ended its worker where it was alone with it "
            "(attempt %d): %s.",
            *(verdict.incident, verdict.request_id, self.ref, verdict.attempts, verdict.cause),
        )
        self._bus.publish(
            RequestConvicted(
                self.ref, verdict.request_id, verdict.incident, verdict.attempts, verdict.cause
            )
        )
        self._pool.explained(verdict.deaths)

    # --- what the pool says (workers.pool.Listener) -----------------------------------------------

    def on_idle(self, worker: str) -> None:
        """A worker has room for a batch."""
        self._batcher.pump()

    def on_answered(self, jobs: list[Job], took_s: float) -> None:
        """These came back; they are being resolved."""
        self._running -= len(jobs)
        self._intake.answered(len(jobs), took_s)
        self._batcher.answered(jobs, took_s)
        self._check_emptied()

    def on_out_of_memory(self, size: int) -> None:
        """A batch of `size` was too large for a worker's memory: those to come are smaller."""
        if isinstance(self._batcher, Batcher):
            self._batcher.ran_out_of_memory(size)
            limit = self._batcher.learned().limit
            _log.warning(
                "%s: a batch of %d needed more memory than there is; from now on at most %d "
                "requests go together, and slowly more if that works out. Set batchSize to %d or "
                "less to have it so from the start.",
                *(self.ref, size, limit, limit),
            )

    def on_room(self, worker: str, room: int) -> list[Job]:
        """Some that wait may join what this worker goes on with."""
        jobs = self._batcher.take(worker, room)
        self._running += len(jobs)
        return jobs

    def on_sequences_end(self, sequences: list[str]) -> None:
        """The handler says that these sequences are over."""
        if isinstance(self._batcher, SequenceBatcher):
            self._batcher.end_sequences(sequences)

    def on_gone(self, worker: str) -> None:
        """A worker has ended."""
        if isinstance(self._batcher, SequenceBatcher):
            self._batcher.worker_gone(worker)

    def on_lost(self, jobs: list[Job], ending: Ending, unsent: frozenset[int]) -> None:
        """A worker died with these jobs."""
        self._running -= len(jobs)
        loss = Loss(ending.text, ending.is_self_inflicted, ending.number, unsent)
        self._batcher.lost(jobs, loss)
        if not self._may_have_workers:
            self._batcher.fail_all(NoWorkers(self.ref.name, None))
        self._check_emptied()

    def on_hopeless(self, cause: str) -> None:
        """No worker serves, and the last ones could not load: nobody should wait for them."""
        self._batcher.fail_all(NoWorkers(self.ref.name, None, cause))
        self._check_emptied()

    # --- life -------------------------------------------------------------------------------------

    def scale(self, min_workers: int, max_workers: int) -> None:
        """Have at least `min_workers`, at most `max_workers`; between them the load decides.

        A parallel model has no more workers than there are devices for; one that is being unloaded
        gets none.
        """
        if self._intake.is_closed:
            return
        limit = self._most_workers
        if limit is not None and max_workers > limit:
            _log.warning(
                "%s: %d worker(s) at most, not %d: each takes %d GPU(s)",
                self.ref,
                limit,
                max_workers,
                self.settings.parallel_level,
            )
            min_workers, max_workers = min(min_workers, limit), limit
        self.settings = replace(self.settings, min_workers=min_workers, max_workers=max_workers)
        settings = self.settings
        self._intake.scaled(settings)
        if self._launcher is not None and self._launcher.share_among(max_workers):
            self._pool.scale(0)  # each finishes its batch, and another takes its place
        self._pool.scale(min(max(self._pool.wanted, min_workers), max_workers), self._in_use)
        if isinstance(self._batcher, SequenceBatcher):
            self._batcher.share(_share(settings))
        if not self._may_have_workers and not self._intake.is_closed:
            self._batcher.fail_all(NoWorkers(self.ref.name, None))
        self._scaler = None
        if min_workers < max_workers:
            up_s, down_s = settings.scale_up_queue_ms / 1000.0, float(settings.scale_down_idle_s)
            limits = ScalingLimits(min_workers, max_workers, up_s, down_s)
            self._scaler = Scaler(limits, time.monotonic())
        self._rescale()

    def _rescale(self) -> None:
        """Let the load decide how many workers there should be, and look again in a while."""
        if self._scaling is not None:
            self._scaling.cancel()
            self._scaling = None
        if self._scaler is None or self._intake.is_closed:
            return
        now = time.monotonic()
        self._scaler.saw(max(self._pool.busy, len(self._in_use)))  # long batches are work, too
        oldest = self._batcher.oldest_since
        waiting_s = None if oldest is None else now - oldest
        count = self._scaler.wanted(Demand(self._pool.wanted, self._pool.ready, waiting_s), now)
        if count != self._pool.wanted:
            _log.info("%s: %d worker(s) wanted, %d before", self.ref, count, self._pool.wanted)
            is_woken = self._pool.wanted == 0  # after a pause whoever asks is worth a new try
            self._pool.scale(count, self._in_use, forgive=is_woken)
        step_s = min(_LONGEST_SCALING_STEP_S, self.settings.scale_up_queue_ms / 4000.0)
        self._scaling = self._loop.call_later(step_s, self._rescale)

    @property
    def _in_use(self) -> set[str]:
        """The workers that remember something for clients, and should not end for lack of work."""
        return self._batcher.workers_in_use if isinstance(self._batcher, SequenceBatcher) else set()

    @property
    def _may_have_workers(self) -> bool:
        return self._pool.wanted > 0 or (self._scaler is not None and not self._intake.is_closed)

    async def settled(self) -> None:
        """Wait until all wanted workers are ready.

        Raises:
            LoadFailed: one cannot load, with the cause.
        """
        await self._pool.settled()

    @property
    def ready_workers(self) -> int:
        """How many workers can take a batch; none of those that keep dying is counted."""
        return 0 if self._pool.standing is Standing.CRASH_LOOP else self._pool.ready

    @property
    def is_from_startup(self) -> bool:
        """Whether it is one of the models that the server was started with."""
        return self._origin.loaded_at_startup

    @property
    def is_failing(self) -> bool:
        """Whether workers are missing because they die or cannot load."""
        return self._pool.is_failing and self._pool.ready < self.settings.min_workers

    @property
    def is_given_up(self) -> bool:
        """Whether that has lasted for longer than it may (maxRetryTimeoutInSec)."""
        return self.is_failing and self._pool.failing_s > self.settings.max_retry_s

    async def close(self, grace_s: float, kill_grace_s: float = KILL_GRACE_S) -> None:
        """Take nothing new, answer what was taken, end the workers; at the latest after `grace_s`.

        What could not be answered by then gets ShuttingDown. Workers that have not ended
        `kill_grace_s` later are killed.
        """
        self._intake.close()
        self._rescale()
        too_late = ShuttingDown("The model was unloaded before its turn came.")
        if self._pool.wanted == 0:  # what waits does so in vain; what runs is still answered
            self._batcher.fail_all(too_late)
        self._check_emptied()
        try:
            try:
                await asyncio.wait_for(self._emptied.wait(), grace_s)
            except TimeoutError:
                self._batcher.fail_all(too_late)
            await self._pool.close(kill_grace_s)
        finally:
            self._batcher.fail_all(too_late)
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
            last_output=self._pool.last_words,
        )

    def _state(self) -> VersionState:
        if self._intake.is_closed:
            return VersionState.DRAINING
        standing = self._pool.standing
        if standing is Standing.CRASH_LOOP:
            return VersionState.CRASH_LOOP
        if self._pool.ready >= min(1, self.settings.min_workers):
            return VersionState.READY
        if standing is Standing.LOAD_FAILED:
            return VersionState.LOAD_FAILED
        return VersionState.FAILED if self._pool.is_failing else VersionState.LOADING

    def _depth_changed(self, depth: int) -> None:
        if self._depth_is_told:  # once in a turn of the loop, however many requests it brings
            self._depth_is_told = False
            self._loop.call_soon(self._tell_depth)
        if depth == 0:
            self._check_emptied()

    def _tell_depth(self) -> None:
        self._depth_is_told = True
        self._bus.publish(QueueChanged(self.ref, self._batcher.depth))

    def _check_emptied(self) -> None:
        if self._intake.is_closed and self._running == 0 and self._batcher.depth == 0:
            self._emptied.set()


def _share(settings: Settings) -> int:
    """How many sequences a worker may have: its part of all, as few workers as there may be."""
    return max(1, settings.max_sequences // max(1, settings.min_workers))
