"""The management service's messages -> the same wishes that HTTP parameters make. Pure.

A zero and an empty text are what a client sends that did not set a field, so they count as not
given. The answers' texts come from `protocols/management.py`, as for HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marserve.errors import InvalidInput
from marserve.protocols import management as wire
from marserve.protocols.faults import torchserve_json
from marserve.protocols.management import Page, Registration, Scaling
from marserve.protocols.pb.management_pb2 import (
    ListModelsRequest,
    ManagementResponse,
    RegisterModelRequest,
    ScaleWorkerRequest,
)

_ALL = 2**31 - 1


def registration(request: RegisterModelRequest) -> Registration:
    """The registration that is asked for.

    Raises:
        InvalidInput: `url` is missing, or a field is out of range.
    """
    texts = {
        "url": request.url,
        "model_name": request.model_name,
        "handler": request.handler,
        "runtime": request.runtime,
    }
    numbers = {
        "batch_size": request.batch_size,
        "max_batch_delay": request.max_batch_delay,
        "initial_workers": request.initial_workers,
        "response_timeout": request.response_timeout,
        "startup_timeout": request.startup_timeout,
    }
    given: dict[str, object] = {"synchronous": request.synchronous}
    given |= {name: text for name, text in texts.items() if text}
    given |= {name: number for name, number in numbers.items() if number}
    if request.s3_sse_kms:
        given["s3_sse_kms"] = True
    return wire.registration(given)


def scaling(request: ScaleWorkerRequest) -> Scaling:
    """The scaling that is asked for: at least one worker, because zero cannot be told from unset.

    Raises:
        InvalidInput: the numbers contradict each other.
    """
    given: dict[str, object] = {"synchronous": request.synchronous}
    if request.min_worker > 0:
        given["min_worker"] = request.min_worker
    if request.max_worker > 0:
        given["max_worker"] = request.max_worker
    return wire.scaling(given, request.model_version or None)


def page(request: ListModelsRequest) -> Page:
    """The page that is asked for; a negative limit asks for everything from its start on.

    Raises:
        InvalidInput: the page starts before the list does.
    """
    if request.limit < 0:
        start = wire.page({"next_page_token": request.next_page_token}).start
        return Page(start=start, limit=_ALL)
    given = {"next_page_token": request.next_page_token}
    return wire.page(given | {"limit": request.limit} if request.limit else given)


def required(name: str, value: str) -> str:
    """A field that has no default.

    Raises:
        InvalidInput: it is empty.
    """
    if not value:
        raise InvalidInput(f"Parameter {name} is required.")
    return value


def sentence(answer: tuple[int, Mapping[str, Any]]) -> ManagementResponse:
    """An answer whose HTTP form is `{"status": …}`."""
    return ManagementResponse(msg=answer[1]["status"])


def document(answer: tuple[int, object]) -> ManagementResponse:
    """An answer that is a JSON document."""
    return ManagementResponse(msg=torchserve_json(answer[1]).decode().removesuffix("\n"))
