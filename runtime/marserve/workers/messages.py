"""What the server, a zygote and a worker say to each other. Data only.

Worker channel: a frame is a fixed header, one of these as msgpack, then raw buffers
(`frames.py`). Zygote control socket: one datagram per message, descriptors beside it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

import msgspec


class FrameKind(IntEnum):
    """The first byte of every frame on a worker channel."""

    LOAD = 1
    BATCH = 2
    STOP = 3
    THREADS = 4
    PING = 5
    LOADED = 11
    LOAD_FAILED = 12
    RESULT = 13
    PIECE = 14
    PONG = 15


class FailureKind(IntEnum):
    """Why a worker could not answer one request."""

    RAISED = 1
    BAD_OUTPUT = 2
    OUT_OF_MEMORY = 3
    TOO_LARGE = 4


# --- server to worker -----------------------------------------------------------------------------


class Load(msgspec.Struct, array_like=True, frozen=True):
    """Load this model; the first message on a channel."""

    model_name: str
    model_version: str
    model_dir: str
    handler: str
    batch_size: int
    gpu_id: int | None
    decode_input: bool
    limit_image_pixels: bool
    max_response_bytes: int
    config_file: str | None
    """Name of the model-config YAML inside `model_dir`."""
    is_async: bool = False
    """The handler is awaited: every request by itself, many at a time."""
    is_continuous: bool = False
    """A batch is a round: requests come again, without their parts, until they are done."""
    envelope: str | None = None
    sequence_headers: tuple[str, str, str] | None = None
    """How the headers are called that name a sequence, its start and its end."""
    metrics_config: str | None = None
    """The file that declares the metrics handlers may look up."""
    python_path: tuple[str, ...] = ()
    """Folders of packages that the model brought."""
    environ: dict[str, str] = {}
    """Variables that the handler is to see, besides the inherited ones."""
    in_step: bool = False
    """Other processes run the same batch: what one of them ran twice, the others would not."""
    threads: int | None = None
    """Compute with so many; None: somebody else has decided."""
    is_idempotent: bool = True
    """Whether a request may be run again after its batch has failed."""
    response_timeout_s: float | None = None
    """Whoever runs a batch for longer is ended; None: nobody is."""


class Threads(msgspec.Struct, array_like=True, frozen=True):
    """From now on compute with so many threads: there are more workers than before, or fewer."""

    threads: int


class BatchPart(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One part of a row; its bytes follow in the frame's buffers, in order."""

    name: str
    content_type: str
    size_bytes: int


class BatchItem(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One request of a batch."""

    id: str
    headers: list[tuple[str, str]]
    parts: list[BatchPart]
    explain: bool | None
    url_path: str | None
    describe: bool = False
    cached: bool = False
    """The handler has had this request's parts before (continuous batching)."""


class Batch(msgspec.Struct, array_like=True, frozen=True):
    """Run the handler once over these rows."""

    id: int
    items: list[BatchItem]
    left_s: list[float | None] | None = None
    """How long each client still waits; None: this one, or each of them, does not say. Seconds
    left, as the clocks of two processes need not agree."""


# --- worker to server -----------------------------------------------------------------------------


class Loaded(msgspec.Struct, array_like=True, frozen=True):
    """The model is loaded; batches may come."""

    load_s: float


class LoadFailed(msgspec.Struct, array_like=True, frozen=True):
    """The model cannot be loaded; the worker ends after this."""

    message: str
    out_of_memory: bool = False


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """One request has no answer."""

    kind: FailureKind
    message: str
    status: int | None = None
    """The HTTP status the handler asked for."""


class Extra(msgspec.Struct, array_like=True, frozen=True):
    """What an answer has besides its body, when it is not a plain 200."""

    status: int
    phrase: str | None
    headers: list[tuple[str, str]]
    failure: Failure | None


class Metric(msgspec.Struct, array_like=True, frozen=True):
    """A figure that the handler reported through `context.metrics`."""

    name: str
    value: float
    unit: str
    kind: str
    dimensions: dict[str, str]
    request_ids: list[str] = []


class Result(msgspec.Struct, array_like=True, frozen=True):
    """One answer per request of the batch with the same id, bodies in the frame's buffers.

    As a PIECE: one piece of each answer; more pieces or the RESULT follow.
    """

    id: int
    handler_s: float
    sizes_bytes: list[Annotated[int, msgspec.Meta(ge=0)]]
    extras: dict[int, Extra]
    metrics: list[Metric]
    out_of_memory_at: int = 0
    """The smallest number of requests for which memory did not suffice; they have been run again
    in smaller batches. 0: it did."""
    first: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Of a PIECE: the request of the batch with which it begins, where the handler was given a part
    of the batch."""
    ran_out_of_memory: bool = False
    """Whether memory, of the host or of a device, did not suffice somewhere."""


# --- zygote control -------------------------------------------------------------------------------

MAX_DATAGRAM_BYTES: Final = 1 << 16
PACKAGE_MISSING: Final = 69
"""The exit code of a launcher that is not installed."""


class Confinement(msgspec.Struct, array_like=True, frozen=True):
    """How a worker is shut in before it runs anybody's code (`sandbox.py`)."""

    mode: str = "off"
    """off, default or strict."""
    model_dir: str = ""
    writable: list[str] = []
    """Where it may write besides the usual places; for files or whole folders."""
    readable: list[str] = []
    """Where it may read in `strict`, besides the usual places."""
    protected: list[str] = []
    """The server's own folders, left out where a usual place would hold them."""
    has_network: bool = True
    made: list[str] = []
    """Folders that it writes to, made if they are missing."""
    scratch: str = ""
    """Its own folder for temporary files."""


class Spawn(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Fork a worker; its channel and its output descriptors come along."""

    worker: str
    command: list[str] = []
    """What the forked process becomes, instead of a worker; its channel is not used then."""
    environ: dict[str, str] = {}
    """Variables for `command`, besides the inherited ones."""
    needs: str = ""
    """A package without which `command` is in vain."""
    confinement: Confinement = Confinement()


class ZygoteReady(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """All preloads are imported (or said why not)."""

    import_s: float
    problems: list[str]


class Spawned(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """The worker exists."""

    worker: str
    pid: int


class Exited(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """The worker with this pid ended; `status` as `os.waitpid` gives it."""

    pid: int
    status: int


class Kill(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """End this worker at once, and whatever it started. Ignored when it has ended already."""

    pid: int
    is_abort: bool = False
    """Let it tell on its stderr what it is doing, and end by that, if it can."""


class SpawnFailed(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """There is no such worker: the kernel refused one more process."""

    worker: str
    message: str


ToZygote = Spawn | Kill
FromZygote = ZygoteReady | Spawned | SpawnFailed | Exited
