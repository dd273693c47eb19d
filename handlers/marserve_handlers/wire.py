"""Replies in the protocol that TorchServe's front end and its workers speak. Pure.

Only for code that was written against it: our own workers speak `marserve.workers.messages`.
Integers are four bytes, big-endian; texts and bodies have their length before them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from marserve_handlers.errors import UnsupportedOutput
from marserve_handlers.payload import encode_item

if TYPE_CHECKING:
    from marserve_handlers.contract import Context

STREAM_NEXT: Final = "ts_stream_next"
"""The response header that says whether more of an answer will come."""

_END: Final = struct.pack("!i", -1)
_OK: Final = 200
_REFUSED: Final = 503


class PredictResponse(bytearray):
    """The bytes of a reply, and what they say."""

    results: list[Any]
    message: str
    code: int


def create_predict_response(
    ret: list[Any] | None,
    req_id_map: Mapping[int, str],
    message: str,
    code: int,
    context: Context | None = None,
    ts_stream_next: bool = False,
) -> PredictResponse:
    """The reply to a batch.

    Args:
        ret: one result per request; None when the batch failed.
        req_id_map: index in the batch to request id.
        message: what there is to say of the whole batch.
        code: 200, or the status that every request gets.
        context: its statuses and headers go into the reply.
        ts_stream_next: whether more of these answers will come; marked in the context's headers.
    """
    reply = PredictResponse(struct.pack("!i", code) + _text(message))
    reply.results, reply.message, reply.code = list(ret or ()), message, code
    for index, request_id in req_id_map.items():
        status: int = code
        phrase, content_type, headers = "", "", {}
        if context is not None and context.request_processor is not None and code == _OK:
            _mark(context, index, ts_stream_next)
            status, given = context.get_response_status(index)
            phrase = given or ""
            content_type = context.get_response_content_type(index) or ""
            headers = context.get_response_headers(index)
        try:
            body = b"error" if ret is None else encode_item(ret[index])
        except UnsupportedOutput as error:
            return create_predict_response(None, req_id_map, str(error), _REFUSED)
        reply += _text(request_id) + _text(content_type) + struct.pack("!i", status)
        reply += _text(phrase) + encode_response_headers(headers) + _sized(body)
    reply += _END
    return reply


def create_load_model_response(code: int, message: str) -> bytearray:
    """The reply to the order to load a model: 200, or why it failed."""
    return bytearray(struct.pack("!i", code) + _text(message) + _END)


def encode_response_headers(resp_hdr_map: Mapping[str, str]) -> bytes:
    """How many there are, then names and values."""
    pairs = b"".join(_text(name) + _text(value) for name, value in resp_hdr_map.items())
    return struct.pack("!i", len(resp_hdr_map)) + pairs


def _mark(context: Context, index: int, will_continue: bool) -> None:
    """Say that more comes; and say that no more does to whom it was said before."""
    if will_continue:
        context.set_response_header(index, STREAM_NEXT, "true")
    elif STREAM_NEXT in context.get_response_headers(index):
        context.set_response_header(index, STREAM_NEXT, "false")


def _text(text: str) -> bytes:
    return _sized(text.encode())


def _sized(data: bytes) -> bytes:
    return struct.pack("!i", len(data)) + data
