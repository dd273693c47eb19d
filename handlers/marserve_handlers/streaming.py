"""Pieces of an answer that go out before the answer does.

A handler calls `send_intermediate_predict_response` as often as it likes; what `handle` returns in
the end is the last piece. The worker says how pieces travel, with `context.send_intermediate`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from marserve_handlers.errors import HandlerError, PredictionException
from marserve_handlers.wire import STREAM_NEXT, PredictResponse, create_predict_response

if TYPE_CHECKING:
    from marserve_handlers.contract import Context

_OK: Final = 200


class Connection(Protocol):
    """What handlers need of a socket."""

    def sendall(self, data: bytes | bytearray, /) -> object:
        """Send all of it."""


class WorkerConnection:
    """What `context.cl_socket` is: takes responses that `create_predict_response` made.

    There is no such socket in a worker of ours; a response goes where intermediate results go.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def sendall(self, data: bytes | bytearray) -> None:
        """Send one intermediate response.

        Raises:
            HandlerError: it was not made by `create_predict_response`, or nobody takes pieces.
        """
        if not isinstance(data, PredictResponse):
            raise HandlerError(
                "context.cl_socket sends only what create_predict_response returns; call "
                "send_intermediate_predict_response instead."
            )
        _send(data.results, data.message, data.code, self._context)


def send_intermediate_predict_response(
    ret: list[Any],
    req_id_map: Mapping[int, str],
    message: str,
    code: int,
    context: Context | None = None,
) -> None:
    """Send one piece of each answer of the batch.

    The first piece fixes status and headers, among them `ts_stream_next: true`. In a worker of
    several processes only the one with `LOCAL_RANK` 0 sends.

    Args:
        ret: one result per request of the batch, of the types that `handle` may return.
        req_id_map: `context.request_ids`.
        message: nobody sees it while the code is 200.
        code: 200; with another one the requests end with this status and the message.
        context: the context that `handle` was given.

    Raises:
        HandlerError: there is no context, not one result per request, or nobody takes pieces.
        PredictionException: the code is not 200.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return
    if context is None:
        raise HandlerError(
            "send_intermediate_predict_response needs the context that handle was given, as its "
            "argument context."
        )
    foreign = context.foreign_connection
    if foreign is not None:
        foreign.sendall(create_predict_response(ret, req_id_map, message, code, context, True))
        return
    if len(ret) != len(req_id_map):
        raise HandlerError(
            f"An intermediate response has one result per request: {len(ret)} were given for "
            f"{len(req_id_map)}."
        )
    _send(ret, message, code, context)


def _send(results: list[Any], message: str, code: int, context: Context) -> None:
    if code != _OK:
        raise PredictionException(message, code)
    send = context.send_intermediate
    if send is None:
        raise HandlerError(
            "Nobody takes intermediate responses here: they can be sent from handle, in a worker."
        )
    for processor in context.request_processor or ():
        processor.add_response_property(STREAM_NEXT, "true")
    send(results, context)
