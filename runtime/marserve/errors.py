"""Every deliberate error of the server, and who has to act on it.

    MarServeError
    ├── the caller     InvalidInput  ModelNotFound  VersionNotFound  RouteNotFound
    │                  MethodNotAllowed  RequestTooLarge  VersionConflict  DefaultVersionInUse
    │                  TokenMissing  TokenRefused  WorkflowNotFound  WorkflowConflict
    │                  NotImplementedHere
    ├── load           QueueFull  QueueBytesFull  NoWorkers  DeadlineExceeded  ShuttingDown
    │                  DeadlineUnreachable  SequenceRefused  NoJobTicket  Shed  QuotaExceeded
    │                  MemoryLow  TooManyDownloads
    ├── model author   HandlerFailed  BadHandlerOutput  ResponseTooLarge  WorkerDied
    │                  OutOfMemory  LoadFailed  DependenciesFailed  WorkflowFailed
    │                  WorkflowInvalid  PoisonRequest  PoisonRequestRefused  CrashLooping
    ├── operator       ConfigInvalid  ArchiveNotFound  ArchiveRefused  StoreMissing  PortInUse
    │                  StateNotSaved  DiskFull  DownloadFailed  ArchiveExistsInStore
    └── us             Bug

An error carries its kind and its facts, never a status code: `protocols/faults.py` owns the one
table from kind to HTTP status. Errors of load carry a word for their cause and, where coming back
helps, when; both reach the client.
"""

from __future__ import annotations

from enum import Enum, auto


class Kind(Enum):
    """What went wrong, in the coarsest words that any protocol needs to tell apart."""

    INVALID_INPUT = auto()
    MODEL_NOT_FOUND = auto()
    VERSION_NOT_FOUND = auto()
    ROUTE_NOT_FOUND = auto()
    METHOD_NOT_ALLOWED = auto()
    REQUEST_TOO_LARGE = auto()
    VERSION_CONFLICT = auto()
    DEFAULT_VERSION_IN_USE = auto()
    QUEUE_FULL = auto()
    NO_WORKERS = auto()
    DEADLINE_EXCEEDED = auto()
    SHUTTING_DOWN = auto()
    HANDLER_FAILED = auto()
    BAD_HANDLER_OUTPUT = auto()
    RESPONSE_TOO_LARGE = auto()
    WORKER_DIED = auto()
    POISON_REQUEST = auto()
    POISON_REQUEST_REFUSED = auto()
    CRASH_LOOP = auto()
    OUT_OF_MEMORY = auto()
    LOAD_FAILED = auto()
    CONFIG_INVALID = auto()
    ARCHIVE_NOT_FOUND = auto()
    ARCHIVE_REFUSED = auto()
    STORE_MISSING = auto()
    PORT_IN_USE = auto()
    STATE_NOT_SAVED = auto()
    DISK_FULL = auto()
    TOKEN_MISSING = auto()
    TOKEN_REFUSED = auto()
    NOT_IMPLEMENTED = auto()
    SEQUENCE_REFUSED = auto()
    NO_JOB_TICKET = auto()
    SHED = auto()
    QUOTA_EXCEEDED = auto()
    MEMORY_LOW = auto()
    DEPENDENCIES_FAILED = auto()
    DOWNLOAD_FAILED = auto()
    TOO_MANY_DOWNLOADS = auto()
    ARCHIVE_EXISTS = auto()
    WORKFLOW_NOT_FOUND = auto()
    WORKFLOW_CONFLICT = auto()
    WORKFLOW_FAILED = auto()
    WORKFLOW_INVALID = auto()
    BUG = auto()


class MarServeError(Exception):
    """The base of all deliberate errors. `str(error)` is one sentence for whoever has to act."""

    kind: Kind = Kind.BUG
    reason: str | None = None
    """One word for why a request was not served; None: the kind says it all."""
    retry_after_s: int | None = None
    """In how many seconds it is worth coming back; None: nobody knows."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidInput(MarServeError):
    """The request is malformed: a parameter is missing or has the wrong form."""

    kind = Kind.INVALID_INPUT


class ModelNotFound(MarServeError):
    """No model of this name is registered."""

    kind = Kind.MODEL_NOT_FOUND

    def __init__(self, name: str) -> None:
        super().__init__(f"Model not found: {name}")
        self.name = name


class VersionNotFound(MarServeError):
    """The model is registered, but not in this version."""

    kind = Kind.VERSION_NOT_FOUND

    def __init__(self, name: str, version: str) -> None:
        super().__init__(f"Model version: {version} does not exist for model: {name}")
        self.name = name
        self.version = version


class RouteNotFound(MarServeError):
    """Nothing is served under this path."""

    kind = Kind.ROUTE_NOT_FOUND

    def __init__(self) -> None:
        super().__init__("Requested resource is not found, please refer to API document.")


class MethodNotAllowed(MarServeError):
    """The path exists, but not with this method."""

    kind = Kind.METHOD_NOT_ALLOWED

    def __init__(self) -> None:
        super().__init__("Requested method is not allowed, please refer to API document.")


class RequestTooLarge(MarServeError):
    """The body is larger than `max_request_size`."""

    kind = Kind.REQUEST_TOO_LARGE

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body is larger than {limit_bytes} bytes (max_request_size).")
        self.limit_bytes = limit_bytes


class VersionConflict(MarServeError):
    """The name and version are registered already."""

    kind = Kind.VERSION_CONFLICT

    def __init__(self, name: str, version: str) -> None:
        super().__init__(f"Model version {version} is already registered for model {name}")


class DefaultVersionInUse(MarServeError):
    """The default version cannot go while other versions are registered."""

    kind = Kind.DEFAULT_VERSION_IN_USE

    def __init__(self, name: str) -> None:
        super().__init__(f"Cannot remove default version for model {name}")


class QueueFull(MarServeError):
    """As many requests wait as `job_queue_size` allows; come back after `retry_after_s`."""

    kind = Kind.QUEUE_FULL
    reason = "queue_full"

    def __init__(self, name: str, limit: int, retry_after_s: int) -> None:
        super().__init__(
            f'Model "{name}" has {limit} requests waiting, which is all its queue may hold '
            "(job_queue_size). Try again later, or use scale workers API to add workers."
        )
        self.retry_after_s = retry_after_s


class QueueBytesFull(MarServeError):
    """The requests that wait take as much memory as they may."""

    kind = Kind.QUEUE_FULL
    reason = "queue_bytes"

    def __init__(self, name: str, waiting_bytes: int, retry_after_s: int) -> None:
        super().__init__(
            f'The requests that wait for model "{name}" take {waiting_bytes} bytes, and this one '
            "would exceed what they may take together. Try again later."
        )
        self.retry_after_s = retry_after_s


class NoWorkers(MarServeError):
    """The version is registered with no worker that could answer."""

    kind = Kind.NO_WORKERS

    def __init__(
        self,
        name: str,
        version: str | None,
        cause: str | None = None,
        purpose: str = "inference",
        retry_after_s: int | None = None,
    ) -> None:
        which = f'Model "{name}"' if version is None else f'Model "{name}" Version {version}'
        because = f" The last one could not load: {cause}" if cause else ""
        super().__init__(
            f"{which} has no worker to serve {purpose} request. "
            f"Please use scale workers API to add workers.{because}"
        )
        self.reason = "no_workers" if purpose == "inference" else None
        self.retry_after_s = retry_after_s


class DeadlineExceeded(MarServeError):
    """No answer came within the time that the request allows."""

    kind = Kind.DEADLINE_EXCEEDED


class DeadlineUnreachable(DeadlineExceeded):
    """An answer would come later than the client can use it, so none is tried."""

    reason = "deadline_unreachable"


class ShuttingDown(MarServeError):
    """The server, or this version, is being stopped and takes nothing new."""

    kind = Kind.SHUTTING_DOWN
    reason = "closing"
    retry_after_s = 1
    """Another server may be there at once."""


class Shed(MarServeError):
    """The request waited, and gave its place to others: the model has more to do than it can."""

    kind = Kind.SHED
    reason = "shedding"

    def __init__(self, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaExceeded(MarServeError):
    """The client sends more requests than one client may."""

    kind = Kind.QUOTA_EXCEEDED
    reason = "quota"

    def __init__(self, per_s: float, retry_after_s: int) -> None:
        super().__init__(
            f"A client may send {per_s:g} requests a second (client_requests_per_second)."
        )
        self.retry_after_s = retry_after_s


class MemoryLow(MarServeError):
    """The machine has too little memory left to take requests."""

    kind = Kind.MEMORY_LOW
    reason = "memory"

    def __init__(self, floor_bytes: int, retry_after_s: int) -> None:
        super().__init__(
            f"Less than {floor_bytes} bytes of memory are available (min_available_memory). "
            "Try again later."
        )
        self.retry_after_s = retry_after_s


class HandlerFailed(MarServeError):
    """The handler raised; `status` is the HTTP status it asked for, if it asked for one."""

    kind = Kind.HANDLER_FAILED

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class BadHandlerOutput(MarServeError):
    """The handler returned something other than one result per request."""

    kind = Kind.BAD_HANDLER_OUTPUT


class ResponseTooLarge(MarServeError):
    """The handler's answer is larger than `max_response_size`."""

    kind = Kind.RESPONSE_TOO_LARGE


class WorkerDied(MarServeError):
    """The worker process ended, every time this request was given to one."""

    kind = Kind.WORKER_DIED


class PoisonRequest(MarServeError):
    """The request ended its worker even where it was alone with it; the log has the incident."""

    kind = Kind.POISON_REQUEST

    def __init__(self, attempts: int, cause: str, incident: str) -> None:
        super().__init__(
            f"Worker died. Attempt {attempts}: {cause}. The request was alone with it; the "
            f"server's log has it as {incident}."
        )
        self.incident = incident


class PoisonRequestRefused(MarServeError):
    """The same request ended its workers twice lately, so it is not executed for a while."""

    kind = Kind.POISON_REQUEST_REFUSED

    def __init__(self) -> None:
        super().__init__(
            "The same request has ended its worker twice in the last minutes, each time alone. It "
            "is not executed again for now; the server's log has the incidents."
        )


class CrashLooping(MarServeError):
    """The version's workers keep dying or cannot load; one is tried again in `retry_after_s`."""

    kind = Kind.CRASH_LOOP
    reason = "no_workers"

    def __init__(self, name: str, version: str, cause: str | None, retry_after_s: int) -> None:
        because = f" The last one: {cause}." if cause else ""
        super().__init__(
            f'Model "{name}" Version {version} has no worker to serve inference request: they keep '
            f"failing, and the next one is tried in {retry_after_s} s.{because}"
        )
        self.retry_after_s = retry_after_s


class OutOfMemory(MarServeError):
    """The handler ran out of host or device memory."""

    kind = Kind.OUT_OF_MEMORY


class LoadFailed(MarServeError):
    """A worker of this version cannot be started; the message has the cause."""

    kind = Kind.LOAD_FAILED
    out_of_memory = False
    """Whether memory, of the host or of a device, was what it lacked."""


class ConfigInvalid(MarServeError):
    """A configuration value cannot be used; the message names key, value and remedy."""

    kind = Kind.CONFIG_INVALID


class ArchiveNotFound(MarServeError):
    """The model store holds no such archive."""

    kind = Kind.ARCHIVE_NOT_FOUND


class ArchiveRefused(MarServeError):
    """The archive is broken, hostile, incomplete or not trusted; the message says how."""

    kind = Kind.ARCHIVE_REFUSED

    def __init__(self, message: str, reason: str | None = None) -> None:
        """`reason`: which rule was broken, in one word for programs; None: none of the archive's.

        The words are those of `marserve_archiver.errors.Reason`.
        """
        super().__init__(message)
        self.reason = reason


class DiskFull(MarServeError):
    """The disk has no room for an archive; `needed_bytes` is what it takes, where it is known."""

    kind = Kind.DISK_FULL

    def __init__(self, message: str, needed_bytes: int | None = None) -> None:
        super().__init__(message)
        self.needed_bytes = needed_bytes


class StoreMissing(MarServeError):
    """An archive was named, but no model store is configured."""

    kind = Kind.STORE_MISSING

    def __init__(self) -> None:
        super().__init__("Model store has not been configured.")


class PortInUse(MarServeError):
    """A listening address is taken or may not be bound."""

    kind = Kind.PORT_IN_USE


class StateNotSaved(MarServeError):
    """The change could not be written to disk, so it was not made."""

    kind = Kind.STATE_NOT_SAVED


class TokenMissing(MarServeError):
    """The port asks for a token and the request carries none."""

    kind = Kind.TOKEN_MISSING

    def __init__(self, message: str, as_400: bool = False) -> None:
        """`as_400`: the client is to get TorchServe's status (token_errors_as_400)."""
        super().__init__(message)
        self.as_400 = as_400


class TokenRefused(MarServeError):
    """The request's token is wrong, expired, or for something else."""

    kind = Kind.TOKEN_REFUSED

    def __init__(self, message: str, as_400: bool = False) -> None:
        """`as_400`: the client is to get TorchServe's status (token_errors_as_400)."""
        super().__init__(message)
        self.as_400 = as_400


class NotImplementedHere(MarServeError):
    """The protocol knows the request, this server does not serve it."""

    kind = Kind.NOT_IMPLEMENTED


class SequenceRefused(MarServeError):
    """No more sequences, or requests of this one, are taken now."""

    kind = Kind.SEQUENCE_REFUSED


class NoJobTicket(MarServeError):
    """No worker is waiting for work, and this model takes requests only then (useJobTicket)."""

    kind = Kind.NO_JOB_TICKET
    reason = "no_ticket"

    def __init__(self, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DependenciesFailed(MarServeError):
    """The packages that an archive requires could not be installed."""

    kind = Kind.DEPENDENCIES_FAILED


class DownloadFailed(MarServeError):
    """An archive could not be fetched from where its url says."""

    kind = Kind.DOWNLOAD_FAILED


class TooManyDownloads(MarServeError):
    """As many archives are being fetched as may be at once; come back later."""

    kind = Kind.TOO_MANY_DOWNLOADS


class ArchiveExistsInStore(MarServeError):
    """The archive to download is in the model store already."""

    kind = Kind.ARCHIVE_EXISTS


class WorkflowNotFound(MarServeError):
    """No workflow of this name is registered, or no such archive exists."""

    kind = Kind.WORKFLOW_NOT_FOUND


class WorkflowConflict(MarServeError):
    """A workflow of this name is registered already."""

    kind = Kind.WORKFLOW_CONFLICT


class WorkflowFailed(MarServeError):
    """A workflow could not be registered, or one of its nodes could not answer."""

    kind = Kind.WORKFLOW_FAILED


class WorkflowInvalid(MarServeError):
    """The specification of a workflow is no directed acyclic graph of known nodes."""

    kind = Kind.WORKFLOW_INVALID


class Bug(MarServeError):
    """Something that cannot happen did."""

    kind = Kind.BUG
