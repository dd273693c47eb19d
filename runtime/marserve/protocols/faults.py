"""What a client is told when something goes wrong: the one table Kind -> HTTP status and type.

The types and the body's form are TorchServe's. Pure, but for two things that an unforeseen error
needs: a random incident number for the client, and a log record that has the same number.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from marserve.errors import (
    HandlerFailed,
    Kind,
    LoadFailed,
    MarServeError,
    TokenMissing,
    TokenRefused,
)
from marserve.protocols.disclosure import for_strangers

_log = logging.getLogger("marserve.faults")


@dataclass(frozen=True, slots=True)
class Row:
    """How one kind of error looks from outside."""

    status: int
    type: str


@dataclass(frozen=True, slots=True)
class Fault:
    """One error as a client sees it."""

    status: int
    type: str
    message: str
    retry_after_s: int | None = None
    """Goes into `Retry-After`; None leaves the header out."""
    reason: str | None = None
    """One word that programs can tell causes by; None leaves it out of the body."""


_OURS = Row(500, "InternalServerException")
_BUSY = Row(503, "ServiceUnavailableException")
_NO_MODEL = Row(404, "ModelNotFoundException")

ROWS: Mapping[Kind, Row] = MappingProxyType(
    {
        Kind.INVALID_INPUT: Row(400, "BadRequestException"),
        Kind.MODEL_NOT_FOUND: _NO_MODEL,
        Kind.VERSION_NOT_FOUND: Row(404, "ModelVersionNotFoundException"),
        Kind.ROUTE_NOT_FOUND: Row(404, "ResourceNotFoundException"),
        Kind.METHOD_NOT_ALLOWED: Row(405, "MethodNotAllowedException"),
        Kind.REQUEST_TOO_LARGE: Row(413, "RequestTooLargeException"),
        Kind.VERSION_CONFLICT: Row(409, "ConflictStatusException"),
        Kind.DEFAULT_VERSION_IN_USE: Row(403, "InvalidModelVersionException"),
        Kind.QUEUE_FULL: _BUSY,
        Kind.NO_WORKERS: _BUSY,
        Kind.DEADLINE_EXCEEDED: Row(504, "RequestTimeoutException"),
        Kind.SHUTTING_DOWN: _BUSY,
        Kind.HANDLER_FAILED: Row(503, "InternalServerException"),
        Kind.BAD_HANDLER_OUTPUT: Row(503, "InternalServerException"),
        Kind.RESPONSE_TOO_LARGE: _OURS,
        Kind.WORKER_DIED: _OURS,
        Kind.POISON_REQUEST: _OURS,
        Kind.POISON_REQUEST_REFUSED: Row(422, "PoisonRequestException"),
        Kind.CRASH_LOOP: _BUSY,
        Kind.OUT_OF_MEMORY: Row(507, "InternalServerException"),
        Kind.LOAD_FAILED: _OURS,
        Kind.CONFIG_INVALID: _OURS,
        Kind.ARCHIVE_NOT_FOUND: _NO_MODEL,
        Kind.ARCHIVE_REFUSED: Row(400, "InvalidModelException"),
        Kind.STORE_MISSING: _NO_MODEL,
        Kind.PORT_IN_USE: _OURS,
        Kind.STATE_NOT_SAVED: Row(507, "InternalServerException"),
        Kind.DISK_FULL: Row(507, "InternalServerException"),
        Kind.TOKEN_MISSING: Row(401, "InvalidKeyException"),
        Kind.TOKEN_REFUSED: Row(403, "InvalidKeyException"),
        Kind.NOT_IMPLEMENTED: Row(501, "NotImplementedException"),
        Kind.SEQUENCE_REFUSED: _BUSY,
        Kind.NO_JOB_TICKET: _BUSY,
        Kind.SHED: _BUSY,
        Kind.QUOTA_EXCEEDED: Row(429, "TooManyRequestsException"),
        Kind.MEMORY_LOW: Row(507, "InsufficientStorageException"),
        Kind.DEPENDENCIES_FAILED: Row(400, "ModelException"),
        Kind.DOWNLOAD_FAILED: Row(400, "DownloadArchiveException"),
        Kind.TOO_MANY_DOWNLOADS: _BUSY,
        Kind.ARCHIVE_EXISTS: _OURS,
        Kind.WORKFLOW_NOT_FOUND: Row(404, "WorkflowNotFoundException"),
        Kind.WORKFLOW_CONFLICT: Row(409, "ConflictStatusException"),
        Kind.WORKFLOW_FAILED: Row(500, "WorkflowException"),
        Kind.WORKFLOW_INVALID: Row(400, "InvalidDAGException"),
        Kind.BUG: _OURS,
    }
)


_FROM_WORKERS = frozenset(
    {
        Kind.HANDLER_FAILED,
        Kind.BAD_HANDLER_OUTPUT,
        Kind.OUT_OF_MEMORY,
        Kind.WORKER_DIED,
        Kind.POISON_REQUEST,
        Kind.CRASH_LOOP,
        Kind.LOAD_FAILED,
        Kind.NO_WORKERS,
        Kind.WORKFLOW_FAILED,
    }
)
"""Errors with words of code that is not ours."""


def fault(error: BaseException, *, to_operator: bool = False) -> Fault:
    """What to tell the client about `error`.

    `to_operator`: whoever asks may load code anyway, and is told where on this machine it failed.

    A bug, or anything that is not a `MarServeError`, is logged with its traceback under a new
    incident number; the client learns that number and nothing else.
    """
    if not isinstance(error, MarServeError) or error.kind is Kind.BUG:
        return _incident(error)
    row = ROWS[error.kind]
    status = row.status
    if isinstance(error, HandlerFailed) and error.status is not None:
        status = _handler_status(error.status)
    if isinstance(error, LoadFailed) and error.out_of_memory:
        status = ROWS[Kind.OUT_OF_MEMORY].status
    if isinstance(error, TokenMissing | TokenRefused) and error.as_400:
        status = 400
    message = error.message
    if error.kind in _FROM_WORKERS and not to_operator:
        message = for_strangers(message)
    return Fault(status, row.type, message, error.retry_after_s, error.reason)


def fault_body(fault: Fault) -> bytes:
    """The body of an error answer (`application/json`): TorchServe's members, then ours.

    As `torchserve_json` prints it, in a tenth of the time: under overload most answers are this.
    """
    told = f'{{\n  "code": {fault.status},\n  "type": {_text(fault.type)},\n  "message": '
    told += _text(fault.message)
    if fault.reason is not None:
        told += f',\n  "reason": {_text(fault.reason)}'
    return (told + "\n}\n").encode("utf-8", "backslashreplace")


_text = json.JSONEncoder(ensure_ascii=False).encode


def torchserve_json(document: object) -> bytes:
    """`document` in TorchServe's print: two spaces, UTF-8 unescaped, a newline at the end.

    A lone surrogate, which UTF-8 cannot hold, comes out as its JSON escape.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


def _handler_status(asked: int) -> int:
    """The status for an error whose handler asked for `asked`.

    An error must look like one, so what is no error status becomes 500. 413 means "out of
    memory" to handlers written for TorchServe; clients know that as 507.
    """
    if asked == 413:
        return 507
    return asked if 400 <= asked <= 599 else 500


def _incident(error: BaseException) -> Fault:
    number = secrets.token_hex(8)
    _log.error("Incident %s: an unforeseen error.", number, exc_info=error)
    row = ROWS[Kind.BUG]
    return Fault(row.status, row.type, f"Internal error; the server's log has it as {number}.")
