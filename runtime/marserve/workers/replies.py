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
from marserve.model_version import SequenceHeaders
from marserve.request import Answer, Job, Reply
from marserve.workers.messages import Failure, FailureKind, Result
from marserve_handlers.wire import STREAM_NEXT


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


def will_go_on(job: Job, reply: Reply) -> bool:
    """Whether a reply is only a piece, so that its request takes part in the next round too."""
    return (
        isinstance(reply, Answer) and job.is_open and _header(reply, STREAM_NEXT).lower() == "true"
    )


def ended_sequences(reply: Reply, headers: SequenceHeaders | None) -> list[str]:
    """The sequences that a handler closes with this reply, by the header for their end."""
    if headers is None or not isinstance(reply, Answer):
        return []
    return [name.strip() for name in _header(reply, headers.end).split(";") if name.strip()]


def _header(answer: Answer, name: str) -> str:
    return next((value for key, value in answer.headers or () if key.lower() == name), "")


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
