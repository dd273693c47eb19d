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
    LOAD_FAILED = "LOAD_FAILED"
    """Its workers cannot load it, time and again; one is tried every now and then."""
    CRASH_LOOP = "CRASH_LOOP"
    """They keep dying; the same."""
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
    max_retry_s: int = 300
    """For how long workers that cannot start count as healthy (maxRetryTimeoutInSec)."""
    client_timeout_ms: int = 0
    """After so long a request is answered with an error, wherever it is; 0: never."""
    parallel_type: str = ""
    """pp, tp, pptp or custom: how a worker's processes or devices share the model; "": not."""
    parallel_level: int = 0
    """Devices (or processes) per worker of a parallel model."""
    device_type: str | None = None
    """cpu or gpu; None: a GPU where there is one."""
    device_ids: tuple[int, ...] = ()
    continuous_batching: bool = False
    use_job_ticket: bool = False
    use_venv: bool = False
    async_communication: bool = False
    sequence_batching: bool = False
    sequence_max_idle_ms: int = 0
    sequence_timeout_ms: int = 0
    max_sequences: int = 0
    sequence_queue_size: int = 0
    scale_up_queue_ms: int = 500
    """Between min_workers and max_workers, one more starts when a request waited so long."""
    scale_down_idle_s: int = 60
    """… and one ends when fewer would have done for so long."""
    max_batch_bytes: int = 0
    """What the bodies of a batch may add up to (maxBatchBytes); 0: any number."""
    idempotent: bool = True
    """Whether a request may be executed again when its worker died (idempotent)."""
    recycle_after_requests: int = 0
    """After about so many requests another worker takes a worker's place; 0: never."""
    recycle_above_mb: int = 0
    """… and above so much memory; 0: never."""


@dataclass(frozen=True, slots=True)
class SequenceHeaders:
    """The headers by which requests name their sequence, its start and its end."""

    id: str
    start: str
    end: str


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
    gpu_id: int | None = None
    gpu_usage: str = "N/A"
    """The use of its GPU as text, in TorchServe's form."""


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
    last_output: str | None = None
    """The end of what a worker printed on its stderr before it failed; None: none is failing."""
    customized: bytes | None = None
    """What the handler says of itself, as it came; None: it was not asked."""
