"""What a worker's result means for each request of its batch. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from marserve.errors import (
    BadHandlerOutput,
    HandlerFailed,
    MarServeError,
    OutOfMemory,
    ResponseTooLarge,
)
from marserve.request import Answer, Reply
from marserve.workers.messages import Failure, FailureKind, Result


def replies(result: Result, buffers: memoryview) -> Iterator[Reply]:
    """One reply per request, in order; `buffers` holds all bodies in a row."""
    start = 0
    for index, size in enumerate(result.sizes_bytes):
        end = start + size
        body = bytes(buffers[start:end])
        start = end
        extra = result.extras.get(index)
        if extra is None:
            yield Answer(body)
        elif extra.failure is not None:
            yield _error(extra.failure)
        else:
            yield Answer(body, extra.status, extra.phrase, extra.headers)


def _error(failure: Failure) -> MarServeError:
    match failure.kind:
        case FailureKind.RAISED:
            return HandlerFailed(failure.message, failure.status)
        case FailureKind.OUT_OF_MEMORY:
            return OutOfMemory(failure.message)
        case FailureKind.TOO_LARGE:
            return ResponseTooLarge(failure.message)
        case _:
            return BadHandlerOutput(failure.message)
