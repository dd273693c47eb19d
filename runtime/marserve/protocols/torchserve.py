"""TorchServe's inference API: HTTP bodies, queries and headers to what a handler sees. Pure.

Bodies are not interpreted here: a part keeps its bytes and the content type that its client named,
and the worker decides what a handler sees (`marserve_handlers.payload`).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import cast

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import (
    Data,
    Epilogue,
    Event,
    Field,
    File,
    MultipartDecoder,
    NeedData,
)

from marserve.errors import InvalidInput
from marserve.request import Header, RequestPart

BODY = "body"
_FORM = b"application/x-www-form-urlencoded"
_MAX_PARTS = 1000
_PIECE_BYTES = 1 << 16
_NO_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
MAX_PART_HEAD_BYTES = 8 * 1024
"""Of the headers of one part; parsing larger ones takes seconds."""
_LINE_END = re.compile(rb"[^\S\r\n]*[\r\n]")
_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_BINARY = "application/octet-stream"
_BOUNDARY = re.compile(
    rb'(?:^|;)\s*boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE
)


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
    elif kind == _FORM:
        return _urlencoded(body)
    return [(BODY, mime.strip().decode("latin-1"), body)]


def kind_of_whole(content_type: bytes) -> str | None:
    """The content type of a body that is one part as a whole; None: `parts` has to look."""
    mime = content_type.partition(b";")[0].strip()
    kind = mime.lower()
    if kind in (_FORM, b"multipart/form-data"):
        return None
    return mime.decode("latin-1")


def is_misread(content_type: bytes, row: Sequence[RequestPart]) -> bool:
    """Whether JSON was sent under the content type of a form: what `curl -d` does by itself."""
    if row and not row[0][0].lstrip().startswith("{"):
        return False
    return content_type.partition(b";")[0].strip().lower() == _FORM


def with_query(query: Iterable[RequestPart], body: Iterable[RequestPart]) -> list[RequestPart]:
    """One row of both: the query's parts come first, the body's win."""
    return _last_of_each([*query, *body])


def query_parts(query: bytes) -> list[RequestPart]:
    """The parts that a query string makes, the last of a name winning; all are plain bytes.

    Raises:
        InvalidInput: it has too many parameters.
    """
    return _last_of_each(_pairs(query, "query", "parameters"))


def text_of(parts: Iterable[RequestPart], name: str) -> str | None:
    """The value of one part as text; None when there is no such part, or it is empty."""
    for part_name, _, value in parts:
        if part_name == name and value:
            return value.decode("utf-8", "replace")
    return None


def seen_headers(headers: Iterable[Header], body_bytes: int) -> list[Header]:
    """The headers of a request as a handler sees them: not about transport, but with a length."""
    seen = [h for h in headers if h[0].lower() not in ("expect", "transfer-encoding")]
    if all(name.lower() != "content-length" for name, _ in seen):
        seen.append(("content-length", str(body_bytes)))
    return seen


def _urlencoded(body: bytes) -> list[RequestPart]:
    pairs = _pairs(body, "form", "fields")
    fields = [field.partition("=")[1] for field in body.decode("latin-1").split("&") if field]
    return _last_of_each(pair for pair, equals in zip(pairs, fields, strict=True) if equals)


def _pairs(encoded: bytes, what: str, ones: str) -> list[RequestPart]:
    """Values are bytes, whatever they mean; names are text, and text in a form is UTF-8."""
    if encoded.count(b"&") >= _MAX_PARTS:
        raise InvalidInput(f"The {what} has more than {_MAX_PARTS} {ones}.")
    pairs = (field.partition(b"=") for field in encoded.split(b"&") if field)
    return [
        (_unescaped(name).decode("utf-8", "replace"), "", _unescaped(value))
        for name, _, value in pairs
    ]


def _unescaped(text: bytes) -> bytes:
    """`text` of a form with its escapes decoded.

    Megabytes of escapes take the standard library's function a second, on the event loop, and sixty
    times their memory. As quoted-printable they are read by C code.
    """
    text = text.replace(b"+", b" ")
    if b"%" not in text:
        return text
    # a per cent sign that begins no escape stands for itself
    text = b"".join(_NO_ESCAPE.sub(b"%25", piece) for piece in _pieces(text))
    return binascii.a2b_qp(text.replace(b"=", b"=3D").replace(b"%", b"="))


def _pieces(text: bytes) -> Iterator[bytes]:
    """The text in pieces that cut no escape: handling one takes a hundred times its memory."""
    at = 0
    while at < len(text):
        end = at + _PIECE_BYTES
        escape = text.rfind(b"%", end - 2, end)
        if escape >= 0 and end < len(text):
            end = escape
        yield text[at:end]
        at = end


def _multipart(boundary: bytes, body: bytes) -> list[RequestPart]:
    _check_part_heads(boundary, body)
    decoder = MultipartDecoder(boundary, max_parts=_MAX_PARTS)
    found: list[RequestPart] = []
    name, kind, chunks = "", "", list[bytes]()
    try:
        for event in _events(decoder, body):
            if isinstance(event, Field | File):
                name, kind, chunks = _part_name(event), _part_type(event), []
            elif isinstance(event, Data):
                chunks.append(event.data)
                if not event.more_data:
                    found.append((name, kind, b"".join(chunks)))
    except RequestEntityTooLarge as error:
        raise InvalidInput(f"The form has more than {_MAX_PARTS} parts.") from error
    except (ValueError, UnicodeError) as error:
        raise InvalidInput(f"The body is not valid multipart/form-data: {error}.") from error
    return _last_of_each(found)


def _events(decoder: MultipartDecoder, body: bytes) -> Iterator[Event]:
    """What stands in a body. Given in pieces: of a whole one the decoder searches and copies more,
    which is tenths of a second for the largest, and all of it on the event loop.
    """
    pieces = (body[at : at + _PIECE_BYTES] for at in range(0, len(body), _PIECE_BYTES))
    for piece in chain(pieces, (None,)):
        decoder.receive_data(piece)
        while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
            yield event


def _check_part_heads(boundary: bytes, body: bytes) -> None:
    """Refuse what would be parsed for long, before any of it is.

    Raises:
        InvalidInput: there are too many parts, or one has large headers.
    """
    delimiter, count, at = b"--" + boundary, 0, -1
    while (at := body.find(delimiter, at + 1)) >= 0:
        ends = _LINE_END.match(body, at + len(delimiter))
        if ends is None or (at and body[at - 1] not in b"\r\n"):
            continue  # it stands in the middle of something
        count += 1
        if count > _MAX_PARTS:
            raise InvalidInput(f"The form has more than {_MAX_PARTS} parts.")
        start = ends.end() - 1
        end = start + MAX_PART_HEAD_BYTES
        if len(body) > end and not _BLANK_LINE.search(body, start, end):
            raise InvalidInput(
                f"The headers of a part of the form have more than {MAX_PART_HEAD_BYTES} bytes."
            )


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
