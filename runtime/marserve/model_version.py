"""One model version: what is wanted of it, what it looks like from outside. Pure.

`Settings` is what management writes; `Description` is the snapshot that others read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from marserve.refs import ModelRef


class VersionState(Enum):
    """The life of a version, as its owner sees it."""

    LOADING = "LOADING"
    READY = "READY"
    FAILED = "FAILED"
    DRAINING = "DRAINING"


class WorkerState(Enum):
    """The life of a worker, as an operator sees it."""

    STARTING = "STARTING"
    READY = "READY"
    BACKING_OFF = "BACKING_OFF"
    STOPPING = "STOPPING"


@dataclass(frozen=True, slots=True)
class Settings:
    """What is wanted of a version. Durable: a restart replays it."""

    min_workers: int
    max_workers: int
    batch_size: int = 1
    max_batch_delay_ms: int = 100
    response_timeout_s: int = 120
    startup_timeout_s: int = 120
    queue_size: int = 100
    handler: str | None = None
    """Overrides the handler that the manifest names."""
    runtime: str = "python"


@dataclass(frozen=True, slots=True)
class WorkerDescription:
    """One worker at one moment."""

    id: str
    state: WorkerState
    pid: int
    """-1 until the process exists."""
    started_at: float
    """Seconds since the epoch."""
    memory_bytes: int
    restarts: int
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Description:
    """One version at one moment."""

    ref: ModelRef
    url: str
    is_default: bool
    state: VersionState
    settings: Settings
    loaded_at_startup: bool
    workers: tuple[WorkerDescription, ...]
    pending_requests: int
    last_error: str | None
