"""What a gRPC client is told when something goes wrong: error -> status code and description. Pure.

Descriptions are TorchServe's: the sentence, a newline, and the name that its code has for the
error, because clients look for either. Codes are TorchServe's too, but for the few that it leaves
to chance (a conflict reached its clients as UNKNOWN without a word).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from types import MappingProxyType

from marserve.errors import Kind, MarServeError, TokenMissing, TokenRefused
from marserve.protocols.faults import fault


class Code(IntEnum):
    """The numbers that gRPC sends for the outcome of a call."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Plane(Enum):
    """Which service answers: the same error has another code in each."""

    PREDICTION = "prediction"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Failure:
    """One error as a gRPC client sees it."""

    code: Code
    message: str
    reason: str = ""
    """TorchServe's name for the error; empty where it has none."""
    http_status: int = 500
    """What an HTTP client would get: metrics count in these classes."""
    word: str | None = None
    """One word that programs can tell causes by, sent as the metadatum `reason`."""
    retry_after_s: int | None = None
    """Sent as `grpc-retry-pushback-ms`; None leaves it out."""

    @property
    def description(self) -> str:
        """The text of the call's status, short enough for every client to accept."""
        text = f"{self.message}\n{self.reason}" if self.reason else self.message
        return _shortened(text, MAX_DESCRIPTION_BYTES)


class CallRefused(Exception):
    """Ends a call with exactly this failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


MAX_DESCRIPTION_BYTES = 1800
"""Descriptions travel as trailers, percent-encoded (three bytes for one at worst), of which
clients take 8 KiB in all; they would fail the call for another reason if that were exceeded."""

_MODELS = "org.pytorch.serve.archive.model."
_HTTP = "org.pytorch.serve.http."
_INTERNAL = _HTTP + "InternalServerException"
_UNNAMED_INTERNAL = "InternalServerException.()"
_UNNAMED_BAD_REQUEST = "BadRequestException.()"

_REASONS: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.INVALID_INPUT: _HTTP + "BadRequestException",
        Kind.MODEL_NOT_FOUND: _MODELS + "ModelNotFoundException",
        Kind.VERSION_NOT_FOUND: _MODELS + "ModelVersionNotFoundException",
        Kind.VERSION_CONFLICT: _HTTP + "ConflictStatusException",
        Kind.DEFAULT_VERSION_IN_USE: _HTTP + "InvalidModelVersionException",
        Kind.ARCHIVE_NOT_FOUND: _MODELS + "ModelNotFoundException",
        Kind.ARCHIVE_REFUSED: _MODELS + "InvalidModelException",
        Kind.STORE_MISSING: _MODELS + "ModelNotFoundException",
        Kind.DEPENDENCIES_FAILED: _MODELS + "ModelException",
        Kind.DOWNLOAD_FAILED: "org.pytorch.serve.archive.DownloadArchiveException",
        Kind.TOKEN_MISSING: "",
        Kind.TOKEN_REFUSED: "",
    }
)
"""Every other kind is an InternalServerException to TorchServe's clients."""

_BETTER_CODES: Mapping[Kind, Code] = MappingProxyType(
    {
        Kind.VERSION_CONFLICT: Code.ALREADY_EXISTS,
        Kind.DEFAULT_VERSION_IN_USE: Code.FAILED_PRECONDITION,
        Kind.ARCHIVE_EXISTS: Code.ALREADY_EXISTS,
        Kind.MEMORY_LOW: Code.RESOURCE_EXHAUSTED,
    }
)
"""Where the HTTP status is a poor guide, and TorchServe's UNKNOWN no guide at all."""

_AS_INTERNAL: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.MODEL_NOT_FOUND: _REASONS[Kind.MODEL_NOT_FOUND],
        Kind.VERSION_NOT_FOUND: _REASONS[Kind.VERSION_NOT_FOUND],
        Kind.NO_WORKERS: _UNNAMED_INTERNAL,
        Kind.SEQUENCE_REFUSED: _UNNAMED_INTERNAL,
        Kind.NO_JOB_TICKET: _UNNAMED_INTERNAL,
    }
)
"""What TorchServe refuses predictions with before they reach a worker: INTERNAL, whatever it is.

Not so where it is worth trying again: a client can only know that from UNAVAILABLE."""

_HTTP_CODES: Mapping[int, Code] = MappingProxyType(
    {
        400: Code.INVALID_ARGUMENT,
        401: Code.UNAUTHENTICATED,
        403: Code.PERMISSION_DENIED,
        404: Code.NOT_FOUND,
        409: Code.ABORTED,
        413: Code.RESOURCE_EXHAUSTED,
        416: Code.OUT_OF_RANGE,
        429: Code.RESOURCE_EXHAUSTED,
        499: Code.CANCELLED,
        501: Code.UNIMPLEMENTED,
        503: Code.UNAVAILABLE,
        504: Code.DEADLINE_EXCEEDED,
    }
)

MODEL_NAME_MISSING = Failure(
    Code.INTERNAL, "Parameter model_name is required.", _UNNAMED_BAD_REQUEST, 400
)
SEQUENCE_ID_MISSING = Failure(
    Code.INTERNAL, "Parameter sequenceId is required.", _UNNAMED_BAD_REQUEST, 400
)
MODEL_API_DISABLED = Failure(
    Code.PERMISSION_DENIED, "Model API disabled", _MODELS + "ModelException", 405
)
NO_CUSTOM_DESCRIPTION = Failure(Code.INTERNAL, _UNNAMED_INTERNAL, _INTERNAL, 500)


def code_of(http_status: int) -> Code:
    """The code for what HTTP clients are told with `http_status`."""
    known = _HTTP_CODES.get(http_status)
    if known is not None:
        return known
    if 200 <= http_status < 300:
        return Code.OK
    if 400 <= http_status < 500:
        return Code.FAILED_PRECONDITION
    return Code.INTERNAL if 500 <= http_status < 600 else Code.UNKNOWN


def failure(error: BaseException, plane: Plane) -> Failure:
    """What to tell the client about `error`.

    What is no `MarServeError` is logged, and the client gets an incident number (`faults.fault`).
    """
    if isinstance(error, CallRefused):
        return error.failure
    told = fault(error, to_operator=plane is Plane.CONTROL)
    kind = error.kind if isinstance(error, MarServeError) else Kind.BUG
    if plane is Plane.PREDICTION and kind in _AS_INTERNAL and told.retry_after_s is None:
        return Failure(Code.INTERNAL, told.message, _AS_INTERNAL[kind], told.status, told.reason)
    code = _BETTER_CODES.get(kind) or code_of(told.status)
    if isinstance(error, TokenMissing | TokenRefused) and error.as_400:
        code = Code.PERMISSION_DENIED  # what TorchServe's 400 is over gRPC
    return Failure(
        code,
        told.message,
        _REASONS.get(kind, _INTERNAL),
        told.status,
        told.reason,
        told.retry_after_s,
    )


def no_such_method(path: str) -> Failure:
    """Nobody serves `package.Service/Method`."""
    return Failure(Code.UNIMPLEMENTED, f"Method not found: {path}", http_status=501)


def stopping() -> Failure:
    """The server is being stopped, and the call would go on for as long as the client likes."""
    return Failure(Code.UNAVAILABLE, "The server is being stopped.", http_status=503)


def deadline_passed() -> Failure:
    """The client said how long it waits, and does not wait any more."""
    return Failure(Code.DEADLINE_EXCEEDED, "The deadline has passed.", http_status=504)


def metadata_too_large() -> Failure:
    """There are more metadata than anybody needs."""
    return Failure(Code.RESOURCE_EXHAUSTED, "The metadata are too large.", http_status=431)


def not_one_message() -> Failure:
    """The body is not what was to come: nothing, a part of a message, or more than one."""
    return Failure(Code.INTERNAL, "The request is no complete message, or more.", http_status=400)


def too_many_calls(limit: int) -> Failure:
    """The port serves as many as it may."""
    return Failure(
        Code.RESOURCE_EXHAUSTED, f"More than {limit} calls are being served.", http_status=503
    )


def bad_reply(message: str) -> Failure:
    """A handler answered, but not in a form that this service can pass on."""
    return Failure(Code.INTERNAL, message, _INTERNAL)


def not_ended(message: str) -> Failure:
    """What a version was still doing did not end in the time that it is given."""
    return Failure(code_of(408), message, _HTTP + "RequestTimeoutException", 408)


def too_slow(limit_bytes: int) -> Failure:
    """The client takes the pieces of its answer more slowly than they come."""
    return Failure(
        Code.RESOURCE_EXHAUSTED,
        f"More than {limit_bytes} bytes of the answer wait for the client to read them.",
        http_status=503,
    )


def _shortened(text: str, most_bytes: int) -> str:
    """`text`, or its beginning and an ellipsis; what UTF-8 cannot hold becomes `?`."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= most_bytes:
        return raw.decode()
    return raw[: most_bytes - 3].decode("utf-8", "ignore") + "..."
