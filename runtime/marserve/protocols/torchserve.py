"""TorchServe's inference API: HTTP bodies to row parts, answers to HTTP heads. Pure.

Bodies are not interpreted here: a part keeps its bytes and the content type that its client named,
and the worker decides what a handler sees (`marserve_handlers.payload`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from marserve.errors import HandlerFailed, InvalidInput
from marserve.request import Answer, Header, RequestPart

BODY = "body"
_MAX_PARTS = 1000
_BINARY = "application/octet-stream"
_BOUNDARY = re.compile(
    rb'(?:^|;)\s*boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE
)
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,8192}")
_PHRASE = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,256}")
_MAX_HANDLER_HEADERS = 64
_OURS = frozenset(
    {
        "cache-control",
        "connection",
        "content-length",
        "expires",
        "keep-alive",
        "pragma",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    }
)
"""Headers that say what the server does; what a handler sets for them is dropped."""

_NO_CACHE = (
    "Pragma: no-cache\r\n"
    "Cache-Control: no-cache; no-store, must-revalidate, private\r\n"
    "Expires: Thu, 01 Jan 1970 00:00:00 UTC\r\n"
)
_PLAIN = (
    "HTTP/1.1 200 OK\r\nx-request-id: {}\r\n"
    + _NO_CACHE
    + "content-length: {}\r\nconnection: {}\r\n\r\n"
)


# --- requests -------------------------------------------------------------------------------------


def parts(content_type: bytes, body: bytes) -> list[RequestPart]:
    """The parts of the one row that an HTTP body makes.

    A form gives a part per field, the last of a name winning; everything else is one part called
    `body`. A field has the content type "", which hands its bytes to the handler as they are.

    Raises:
        InvalidInput: the body is not the multipart form that it says it is.
    """
    mime, _, parameters = content_type.partition(b";")
    kind = mime.strip().lower()
    if kind == b"multipart/form-data":
        boundary = _BOUNDARY.search(parameters)
        if boundary:
            return _multipart(boundary[1] or boundary[2], body)
    elif kind == b"application/x-www-form-urlencoded":
        return _urlencoded(body)
    return [(BODY, mime.strip().decode("latin-1"), body)]


def _urlencoded(body: bytes) -> list[RequestPart]:
    try:
        pairs = parse_qsl(
            body.decode("latin-1"),
            keep_blank_values=True,
            encoding="latin-1",
            max_num_fields=_MAX_PARTS,
        )
    except ValueError as error:
        raise InvalidInput(f"The form has more than {_MAX_PARTS} fields.") from error
    fields = [field.partition("=")[1] for field in body.decode("latin-1").split("&") if field]
    pairs = [pair for pair, equals in zip(pairs, fields, strict=True) if equals]
    # values are bytes, whatever they mean; names are text, and text in a form is UTF-8
    return _last_of_each(
        (name.encode("latin-1").decode("utf-8", "replace"), "", value.encode("latin-1"))
        for name, value in pairs
    )


def _multipart(boundary: bytes, body: bytes) -> list[RequestPart]:
    decoder = MultipartDecoder(boundary, max_parts=_MAX_PARTS)
    found: list[RequestPart] = []
    name, kind, chunks = "", "", list[bytes]()
    try:
        decoder.receive_data(body)
        decoder.receive_data(None)
        while True:
            event = decoder.next_event()
            if isinstance(event, Field | File):
                name, kind, chunks = _part_name(event), _part_type(event), []
            elif isinstance(event, Data):
                chunks.append(event.data)
                if not event.more_data:
                    found.append((name, kind, b"".join(chunks)))
            elif isinstance(event, Epilogue | NeedData):
                break
    except RequestEntityTooLarge as error:
        raise InvalidInput(f"The form has more than {_MAX_PARTS} parts.") from error
    except (ValueError, UnicodeError) as error:
        raise InvalidInput(f"The body is not valid multipart/form-data: {error}.") from error
    return _last_of_each(found)


def _part_name(event: Field | File) -> str:
    name = cast("str | None", event.name)  # typed as str, but None where the part has no name
    if name is None:
        raise InvalidInput("The body is not valid multipart/form-data: a part has no name.")
    return name


def _part_type(event: Field | File) -> str:
    if isinstance(event, Field):
        return ""
    return str(event.headers.get("content-type", _BINARY)).partition(";")[0].strip()


def _last_of_each(found: Iterable[RequestPart]) -> list[RequestPart]:
    return list({part[0]: part for part in found}.values())


# --- answers --------------------------------------------------------------------------------------


def plain_head(request_id: str, body_bytes: int, keep_alive: bool) -> bytes:
    """The head of an ordinary 200 without headers of the handler's."""
    return _PLAIN.format(request_id, body_bytes, "keep-alive" if keep_alive else "close").encode()


def answer_head(answer: Answer, request_id: str, keep_alive: bool) -> bytes:
    """The head for any answer of a handler.

    Raises:
        HandlerFailed: the handler chose a status, phrase or header that HTTP cannot carry.
    """
    if answer.status == 200 and answer.headers is None and answer.phrase is None:
        return plain_head(request_id, len(answer.body), keep_alive)
    if not 200 <= answer.status <= 599:
        raise HandlerFailed(f"The handler chose the HTTP status {answer.status}.")
    if not _PHRASE.fullmatch(answer.phrase or ""):
        raise HandlerFailed("The handler chose a reason phrase with forbidden characters.")
    headers = [h for h in answer.headers or [] if h[0].lower() not in _OURS]
    if len(headers) > _MAX_HANDLER_HEADERS:
        raise HandlerFailed(f"The handler set more than {_MAX_HANDLER_HEADERS} headers.")
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise HandlerFailed(f"The handler set a header {name[:80]!r} that HTTP cannot carry.")
    length = None if answer.status in (204, 304) else len(answer.body)
    return head(answer.status, headers, request_id, length, keep_alive, answer.phrase)


def head(
    status: int,
    headers: Iterable[Header],
    request_id: str,
    body_bytes: int | None,
    keep_alive: bool,
    phrase: str | None = None,
) -> bytes:
    """The head of any answer. `body_bytes` None: one that never has a body."""
    lines = [f"HTTP/1.1 {status} {phrase if phrase is not None else _phrase(status)}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    lines.append(f"x-request-id: {request_id}\r\n{_NO_CACHE}")
    if body_bytes is not None:
        lines.append(f"content-length: {body_bytes}\r\n")
    lines.append("connection: keep-alive\r\n\r\n" if keep_alive else "connection: close\r\n\r\n")
    return "".join(lines).encode("latin-1")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
