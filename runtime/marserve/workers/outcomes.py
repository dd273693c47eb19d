"""What a handler's run came to, in the words of the worker channel. Pure but for stderr.

Exceptions of user code never cross the process line as objects: the server gets a kind and a
sentence. Results become bytes here, each with whatever is not a plain 200.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from marserve.workers import sandbox
from marserve.workers.frames import LARGE_BYTES, Buffer
from marserve.workers.messages import Extra, Failure, FailureKind, Metric
from marserve_handlers.contract import Context
from marserve_handlers.errors import UnsupportedOutput
from marserve_handlers.metrics import MetricSample
from marserve_handlers.payload import encode_item

_MAX_MESSAGE_CHARS = 2000
_MAX_TOLD_IDS = 16
_LOST_DEVICE = (
    *("illegal memory access", "unspecified launch failure", "device-side assert"),
    *("misaligned address", "illegal instruction", "invalid program counter"),
    *("hardware stack error", "uncorrectable ecc error", "launch timed out"),
    *("device is lost", "gpu is lost", "fallen off the bus"),
)
"""What CUDA and HIP say when a process can do nothing more with its device."""
ItemAnswer: TypeAlias = tuple[Buffer, Extra | None]
"""Body, and whatever is not a plain 200."""


def encoded(output: object, index: int, context: Context, max_bytes: int) -> ItemAnswer:
    """The answer to item `index` of the context's batch, from what the handler returned for it."""
    try:
        body = _body(output)
    except UnsupportedOutput as error:
        return failure(FailureKind.BAD_OUTPUT, str(error))
    if len(body) > max_bytes:
        return failure(
            FailureKind.TOO_LARGE,
            f"The answer has {len(body)} bytes, more than {max_bytes} (max_response_size).",
        )
    status, phrase = context.get_response_status(index)
    headers = context.get_response_headers(index)
    if status == 200 and not phrase and not headers:
        return body, None
    return body, Extra(int(status), phrase or None, list(headers.items()), None)


def _body(output: object) -> Buffer:
    """Large bytes that can change are not copied; while this view is there they keep their size."""
    if isinstance(output, bytearray) and len(output) >= LARGE_BYTES:
        return memoryview(output)
    return encode_item(output)


def failure(kind: FailureKind, message: str, status: int | None = None) -> ItemAnswer:
    """No answer, and why."""
    return b"", Extra(500, None, [], Failure(kind, message[:_MAX_MESSAGE_CHARS], status))


def complaint(outputs: object, expected: int) -> str | None:
    """What is wrong with the shape of the handler's result, if anything is."""
    if not isinstance(outputs, list):
        return (
            "Invalid model predict output: the handler must return a list, "
            f"not {type(outputs).__name__}"
        )
    if len(outputs) != expected:
        return (
            f"number of batch response mismatched: the handler returned {len(outputs)} results "
            f"for {expected} requests"
        )
    return None


def raised(error: BaseException) -> ItemAnswer:
    """What the handler's exception means for a request of its batch."""
    if is_out_of_memory(error):
        return failure(FailureKind.OUT_OF_MEMORY, f"Out of resources: {sentence(error)}")
    status = getattr(error, "error_code", None)
    if isinstance(status, int) and not isinstance(status, bool) and 0 <= status <= 999:
        return failure(FailureKind.RAISED, _text(error), status)
    return failure(FailureKind.RAISED, f"Prediction failed: {sentence(error)}")


def tell(error: BaseException, request_ids: Sequence[str]) -> None:
    """Write what the handler raised to the worker's own output, with the requests it is about.

    Clients get the same ids in `x-request-id`, and less of the text.
    """
    about = ", ".join(request_ids[:_MAX_TOLD_IDS])
    sys.stderr.write(f"The handler failed for {len(request_ids)} request(s): {about}\n")
    traceback.print_exception(error)
    if advice := sandbox.remedy(error):
        sys.stderr.write(f"{advice}\n")


def leave_with_lost_device(error: BaseException) -> None:
    """End the process if the handler's exception means that its device is of no more use to it.

    Whatever it was asked next would fail as well. What it runs is run again by another.

    Raises:
        SystemExit: the device is lost.
    """
    if is_lost_device(error):
        sys.stderr.write("The device can be used no more by this process; another takes over.\n")
        raise SystemExit(1) from error


def is_lost_device(error: BaseException) -> bool:
    """Whether every further use of the device will fail, too."""
    text = _said(error).lower() if isinstance(error, RuntimeError) else ""
    is_of_device = any(word in text for word in ("cuda", "hip", "nvml"))
    return is_of_device and any(words in text for words in _LOST_DEVICE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether host or device memory ran out."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "CUDA" in str(error)
    )


def is_too_large(error: BaseException) -> bool:
    """Whether memory ran out in a way that a smaller batch may avoid."""
    if isinstance(error, MemoryError):
        return True
    # PyTorch's CUDA allocator, its CPU allocator, cuBLAS and ONNX Runtime, in this order
    text = _said(error).lower() if isinstance(error, RuntimeError) else ""
    return any(
        words in text
        for words in (
            *("out of memory", "can't allocate memory", "cublas_status_alloc_failed"),
            "failed to allocate memory",
        )
    )


def sentence(error: BaseException) -> str:
    """`Type: text` of an exception, even of one that cannot say its own text."""
    name = type(error).__name__
    text = _said(error)
    return _clean(f"{name}: {text}" if text else name)


def told_metrics(samples: Iterable[MetricSample]) -> list[Metric]:
    """What can be told of the figures; one with a name or value of another type is left out."""
    told = []
    for m in samples:
        try:
            dimensions = {_clean(k): _clean(v) for k, v in dict(m.dimensions).items()}
            told.append(
                Metric(
                    _clean(m.name),
                    float(m.value),
                    _clean(m.unit),
                    m.kind,
                    dimensions,
                    list(m.request_ids),
                )
            )
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            sys.stderr.write(f"A metric was dropped: {sentence(error)}\n")
    return told


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  user code: even describing its error may raise
        return ""


def _text(error: BaseException) -> str:
    message = getattr(error, "message", None)
    return _clean(message) if isinstance(message, str) else sentence(error)


def _clean(text: str) -> str:
    """What UTF-8 can carry of a text: handlers make messages of bytes that are no text."""
    return text.encode("utf-8", "replace").decode()
