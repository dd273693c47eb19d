"""The heads of HTTP answers, as TorchServe writes them: order, spelling and values. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

from marserve.errors import HandlerFailed
from marserve.protocols.cors import NO_CORS, Cors
from marserve.request import Answer, Header
from marserve_handlers.wire import STREAM_NEXT

_MORE_COMES: Header = (STREAM_NEXT, "true")
"""What a client of TorchServe knows a streamed answer by."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,8192}")
_PHRASE = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,256}")
MAX_HANDLER_HEADERS = 64
MAX_HANDLER_HEADER_BYTES = 16 * 1024
_OURS = frozenset(
    {
        "cache-control",
        "connection",
        "content-length",
        "date",
        "expires",
        "keep-alive",
        "pragma",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "server",
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
_KEEP_ALIVE = "connection: keep-alive\r\n\r\n"
_CLOSE = "connection: close\r\n\r\n"


def has_body(status: int) -> bool:
    """Whether HTTP lets an answer of this status have a body."""
    return status not in (204, 304)


class Heads:
    """Writes heads; every one has the headers that `cors` asks for."""

    def __init__(self, cors: Cors = NO_CORS) -> None:
        self._cors = cors
        self._common = _NO_CACHE + _lines(cors.allowed())

    def plain(self, request_id: str, body_bytes: int, keep_alive: bool) -> bytes:
        """The head of an ordinary 200 without headers of the handler's."""
        return (
            f"HTTP/1.1 200 OK\r\nx-request-id: {request_id}\r\n{self._common}"
            f"content-length: {body_bytes}\r\n{_KEEP_ALIVE if keep_alive else _CLOSE}"
        ).encode("latin-1")

    def answer(self, answer: Answer, request_id: str, keep_alive: bool) -> bytes:
        """The head for any answer of a handler.

        Raises:
            HandlerFailed: the handler chose a status, phrase or header that HTTP cannot carry.
        """
        if answer.is_plain:
            return self.plain(request_id, len(answer.body), keep_alive)
        headers = _checked(answer)
        length = len(answer.body) if has_body(answer.status) else None
        return self.any(answer.status, headers, request_id, length, keep_alive, answer.phrase)

    def stream(self, first: Answer, request_id: str, keep_alive: bool, chunked: bool) -> bytes:
        """The head of an answer that comes in pieces, of which `first` is the first.

        Raises:
            HandlerFailed: as `answer`.
        """
        headers = _checked(first)
        if all(name.lower() != STREAM_NEXT for name, _ in headers):
            headers.append(_MORE_COMES)
        framing = "transfer-encoding: chunked\r\n" if chunked and has_body(first.status) else ""
        return self._head(first.status, first.phrase, headers, request_id, framing, keep_alive)

    def any(
        self,
        status: int,
        headers: Iterable[Header],
        request_id: str,
        body_bytes: int | None,
        keep_alive: bool,
        phrase: str | None = None,
    ) -> bytes:
        """The head of any answer. `body_bytes` None: one that never has a body."""
        framing = "" if body_bytes is None else f"content-length: {body_bytes}\r\n"
        return self._head(status, phrase, list(headers), request_id, framing, keep_alive)

    def _head(
        self,
        status: int,
        phrase: str | None,
        headers: list[Header],
        request_id: str,
        framing: str,
        keep_alive: bool,
    ) -> bytes:
        words = phrase if phrase is not None else _phrase(status)
        cors = self._cors.allowed(name for name, _ in headers)
        return (
            f"HTTP/1.1 {status} {words}\r\n{_lines(headers)}x-request-id: {request_id}\r\n"
            f"{_NO_CACHE}{_lines(cors)}{framing}{_KEEP_ALIVE if keep_alive else _CLOSE}"
        ).encode("latin-1")


def _checked(answer: Answer) -> list[Header]:
    """The headers of the handler that go out, once all it chose is known to be possible."""
    if not 200 <= answer.status <= 599:
        raise HandlerFailed(f"The handler chose the HTTP status {answer.status}.")
    if not _PHRASE.fullmatch(answer.phrase or ""):
        raise HandlerFailed("The handler chose a reason phrase with forbidden characters.")
    headers = [h for h in answer.headers or [] if h[0].lower() not in _OURS]
    if len(headers) > MAX_HANDLER_HEADERS:
        raise HandlerFailed(f"The handler set more than {MAX_HANDLER_HEADERS} headers.")
    if sum(len(name) + len(value) for name, value in headers) > MAX_HANDLER_HEADER_BYTES:
        raise HandlerFailed(
            f"The handler set headers of more than {MAX_HANDLER_HEADER_BYTES} bytes."
        )
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise HandlerFailed(f"The handler set a header {name[:80]!r} that HTTP cannot carry.")
    return headers


def _lines(headers: Iterable[Header]) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in headers])


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
