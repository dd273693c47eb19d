"""The lives of workers in TorchServe's words, which people's tools look for in `ts_log.log`."""

from __future__ import annotations

import logging
import time

from marserve.events import (
    BatchLate,
    Bus,
    RequestAbandoned,
    VersionGone,
    WorkerExited,
    WorkerReady,
    WorkerStarted,
)
from marserve.refs import ModelRef

_log = logging.getLogger("marserve.workers")

_STARTED = "WORKER_STARTED"
_LOADED = "WORKER_MODEL_LOADED"
_STOPPED = "WORKER_STOPPED"
_SCALED_DOWN = "WORKER_SCALED_DOWN"

_Key = tuple[ModelRef, str]


class WorkerLog:
    """Listens to `bus`. Each line's thread is the worker's name, `W-9000-m_1.0`."""

    def __init__(self, bus: Bus) -> None:
        self._states: dict[_Key, str] = {}
        self._late: dict[_Key, int] = {}
        """Answers in a row that did not come in time."""
        self._recovering: set[_Key] = set()
        bus.subscribe(WorkerStarted, self._started)
        bus.subscribe(WorkerReady, self._ready)
        bus.subscribe(BatchLate, self._batch_late)
        bus.subscribe(WorkerExited, self._exited)
        bus.subscribe(RequestAbandoned, self._abandoned)
        bus.subscribe(VersionGone, self._version_gone)

    def _started(self, event: WorkerStarted) -> None:
        self._change((event.ref, event.worker), _STARTED)

    def _ready(self, event: WorkerReady) -> None:
        key = (event.ref, event.worker)
        self._change(key, _LOADED)
        if key in self._recovering:
            self._recovering.discard(key)
            self._tell(key, logging.INFO, "Auto recovery succeeded, reset recoveryStartTS")

    def _batch_late(self, event: BatchLate) -> None:
        key = (event.ref, event.worker)
        self._late[key] = self._late.get(key, 0) + 1
        self._tell(
            key,
            logging.INFO,
            "Number or consecutive unsuccessful inference %d",
            self._late[key],
        )

    def _exited(self, event: WorkerExited) -> None:
        key = (event.ref, event.worker)
        state = self._states.get(key)
        if event.expected:
            self._change(key, _SCALED_DOWN)
            self._forget(key)
            return
        self._tell(key, logging.INFO, "%s Worker disconnected. %s", event.worker, state)
        self._tell(key, logging.ERROR, "Backend worker error\n%s", event.cause)
        self._change(key, _STOPPED)
        if key in self._recovering:
            self._tell(key, logging.WARNING, "Auto recovery failed again")
        else:
            self._recovering.add(key)
            moment_ms = time.time_ns() // 1_000_000
            self._tell(key, logging.INFO, "Auto recovery start timestamp: %d", moment_ms)
        if event.retry_s is not None:
            self._tell(
                key, logging.INFO, "Retry worker: %s in %g seconds.", event.worker, event.retry_s
            )

    def _abandoned(self, event: RequestAbandoned) -> None:
        _log.warning("Connection to client got closed; Removing job: %s", event.request_id)

    def _version_gone(self, event: VersionGone) -> None:
        for key in [key for key in self._states if key[0] == event.ref]:
            self._forget(key)

    def _change(self, key: _Key, state: str) -> None:
        before = self._states.get(key, "null")
        self._states[key] = state
        if state == _LOADED:
            self._late.pop(key, None)
        self._tell(key, logging.INFO, "%s State change %s -> %s", worker_title(*key), before, state)

    def _forget(self, key: _Key) -> None:
        self._states.pop(key, None)
        self._late.pop(key, None)
        self._recovering.discard(key)

    def _tell(self, key: _Key, level: int, message: str, *arguments: object) -> None:
        _log.log(level, message, *arguments, extra={"worker": worker_title(*key)})


def worker_title(ref: ModelRef, worker: str) -> str:
    """What TorchServe calls a worker."""
    return f"W-{worker}-{ref.name}_{ref.version}"
