"""Reads the requests of one connection: bytes to heads and bodies, or a refusal. Knows no sockets.

Heads are llhttp's (through httptools), strict; where they end, and all of the bodies, is found out
here, so that nothing is parsed that a limit cuts off, and whatever way the bytes are cut they mean
the same. After a refusal nothing more is read: what follows cannot be told apart.

A head that repeats an earlier one of the connection is not parsed again (`request_head.py`).
"""

from __future__ import annotations

import re
from typing import Final, Protocol

import httptools

from marserve.servers.chunked_body import BodyRefused, ChunkedBody
from marserve.servers.framing import is_unambiguous
from marserve.servers.request_head import HeadPattern, RequestHead

MAX_TARGET_BYTES: Final = 8 * 1024
MAX_HEAD_BYTES: Final = 32 * 1024
"""Of all header fields."""
MAX_FIELDS: Final = 100
_MAX_LINE_BYTES: Final = MAX_TARGET_BYTES + 32
"""Of a request line, method and version included."""
_MAX_FIELDS_BYTES: Final = MAX_HEAD_BYTES + 4 * MAX_FIELDS + 4
"""What the fields may take with all that is between them."""
_MAX_BLANK_LINES: Final = 8
_LINE = re.compile(rb"[A-Z]+(?:-[A-Z]+)? [^ ]+ HTTP/1\.[01]")
"""Parsers skip spaces here that others count."""
_BLANK_LINES = re.compile(rb"(?:\r\n)+")
_MAX_UNREPEATED: Final = 8
"""So many heads in a row that no request repeated, and no further one is remembered."""


class Owner(Protocol):
    """Who is told what was read."""

    def on_request(self, head: RequestHead, body: bytes) -> None:
        """A whole request is there."""

    def on_refused(self, status: int) -> None:
        """What comes is no request that could be served; the reader is over."""

    def on_expect(self) -> None:
        """The client waits to be told that it may send the body."""


class RequestReader:
    """Owned by a connection."""

    # what hardly ever differs is an attribute of the class
    is_over = False
    """Whether nothing is read any more."""
    is_in_head = False
    is_in_body = False
    since = 0.0
    """When the request that is coming in began."""
    _missing_bytes = 0
    _chunked: ChunkedBody | None = None
    _held = b""
    _blank_lines = 0

    def __init__(self, max_body_bytes: int, owner: Owner) -> None:
        self.max_body_bytes = max_body_bytes
        self._owner = owner
        self._head = self.refused_head = RequestHead(b"", b"")
        """What is known of the request that was refused; empty if it was not understood."""
        self._pieces: list[bytes] = []
        self._pattern: HeadPattern | None = None
        self._unrepeated = 0
        self._parser: httptools.HttpRequestParser
        self._head_bytes = 0
        self._line = self._tail = b""
        self._has_line = self._is_parsed = False

    @property
    def body_bytes(self) -> int:
        """What has come of the body that is coming in."""
        if self._chunked is not None:
            return self._chunked.received_bytes
        return self._head.body_bytes - self._missing_bytes

    def feed(self, data: bytes, now: float) -> None:
        """Read on. `now`: when the data came, in seconds."""
        while data and not self.is_over:
            if self._missing_bytes:
                data = self._take_body(data)
            elif self._chunked is not None:
                data = self._take_chunks(self._chunked, data)
            elif self.is_in_head:
                data = self._take_head(data)
            elif self._pattern is not None and not self._held and self._pattern.matches(data):
                data = self._repeat(self._pattern, data, now)
            else:
                data = self._begin(data, now)

    def end(self) -> None:
        """Read nothing more."""
        self.is_over = True
        self.is_in_head = self.is_in_body = False
        self._pieces = []
        self._chunked = None

    def refuse(self, status: int) -> bytes:
        """Read no further, and say so once. Returns what is left to read: nothing."""
        if not self.is_over:
            self.end()
            self._owner.on_refused(status)
        return b""

    # --- a head that is known ---------------------------------------------------------------------

    def _repeat(self, pattern: HeadPattern, data: bytes, now: float) -> bytes:
        """Begin a request whose head is known; returns what of `data` belongs to the next one."""
        self._unrepeated = self._blank_lines = 0
        head = pattern.head
        start = len(pattern.raw)
        end = start + head.body_bytes
        if head.body_bytes > self.max_body_bytes:
            self.refused_head = head
            return self.refuse(413)
        if len(data) < end:
            self.since = now
            self._await(head)
            return data[start:]
        self._owner.on_request(head, data[start:end])
        return data[end:] if len(data) > end else b""

    # --- any other head ---------------------------------------------------------------------------

    def _begin(self, data: bytes, now: float) -> bytes:
        self._head = self.refused_head = RequestHead(b"", b"")
        if self._held:
            data, self._held = self._held + data, b""
        if data[0] in b"\r\n":
            return self._skip_blank_lines(data)
        self.is_in_head = True
        self.since = now  # whole heads are timed, not reads: trickling buys nothing
        self._blank_lines = 0
        self._parser = httptools.HttpRequestParser(self)
        self._head_bytes = 0
        self._line = self._tail = b""
        self._has_line = self._is_parsed = False
        return data

    def _skip_blank_lines(self, data: bytes) -> bytes:
        """Some clients end a body with more line ends than it has (RFC 9112, 2.2)."""
        blank = _BLANK_LINES.match(data)
        rest = data[blank.end() :] if blank else data
        self._blank_lines += blank.end() // 2 if blank else 0
        if rest == b"\r":
            self._held, rest = rest, b""
        if self._blank_lines > _MAX_BLANK_LINES or rest[:1] in (b"\r", b"\n"):
            return self.refuse(400)
        return rest

    def _take_head(self, data: bytes) -> bytes:
        """Parse as much of `data` as belongs to the head; returns the rest."""
        end = self._end_of_head(data)
        piece, status = self._within_limits(data if end < 0 else data[:end])
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            pass  # None but this protocol is spoken, in which the client goes on (RFC 9110, 7.8)
        except httptools.HttpParserError:
            return self.refuse(400)
        if status:
            return self.refuse(status)
        is_one_piece = not self._head_bytes
        self._head_bytes += len(piece)
        self._tail = (self._tail + piece)[-3:]
        if end < 0:
            return b""
        if not self._is_parsed:  # a blank line, and still no head before it
            return self.refuse(400)
        self.is_in_head = False
        status = self._judge(self._head)
        if status:
            return self.refuse(status)
        if is_one_piece:
            self._remember(self._head, piece)
        self._await(self._head)
        return data[end:]

    def _end_of_head(self, data: bytes) -> int:
        """Where in `data` the head is over; -1: not there yet."""
        tail = self._tail
        if tail:
            at = (tail + data[:3]).find(b"\r\n\r\n")
            if at >= 0:
                return at + 4 - len(tail)
        at = data.find(b"\r\n\r\n")
        return at + 4 if at >= 0 else -1

    def _within_limits(self, piece: bytes) -> tuple[bytes, int]:
        """What of a piece of the head is parsed, and how the head is refused after that."""
        if not self._has_line:
            at = piece.find(b"\r")
            self._has_line = at >= 0
            self._line += piece[:at] if at >= 0 else piece
            if len(self._line) > _MAX_LINE_BYTES:
                return piece[: _MAX_LINE_BYTES - self._head_bytes], 414
        room = len(self._line) + _MAX_FIELDS_BYTES - self._head_bytes
        return (piece, 0) if len(piece) <= room else (piece[:room], 431)

    def _judge(self, head: RequestHead) -> int:
        """Complete what is known of a head that was parsed; the status that refuses it, or 0."""
        version = self._parser.get_http_version()
        head.method = self._parser.get_method()
        headers = head.headers
        if len(head.target) > MAX_TARGET_BYTES:
            return 414
        if len(headers) > MAX_FIELDS or sum(len(n) + len(v) for n, v in headers) > MAX_HEAD_BYTES:
            return 431
        if not _LINE.fullmatch(self._line):
            return 400
        if not is_unambiguous(head.method, head.target, version, headers):
            return 400
        self.refused_head = head
        head.takes_chunks = version == "1.1"
        length, expect = head.header(b"content-length"), head.header(b"expect")
        head.body_bytes = int(length or b"0")
        if head.body_bytes > self.max_body_bytes:
            return 413
        head.is_reframed = not length or expect != b""
        return 417 if expect and expect.lower() != b"100-continue" else 0

    def _remember(self, head: RequestHead, raw: bytes) -> None:
        """Know this head again, which is `raw`, blank line included."""
        self._unrepeated += 1
        known = self._unrepeated <= _MAX_UNREPEATED
        self._pattern = HeadPattern.of(head, raw) if known else None

    # --- bodies -----------------------------------------------------------------------------------

    def _await(self, head: RequestHead) -> None:
        """The head is there: its request is whole, or its body comes next."""
        self._head = head
        self.refused_head = head
        if head.body_bytes:
            self._missing_bytes = head.body_bytes
        elif head.is_reframed and head.header(b"transfer-encoding"):
            self._chunked = ChunkedBody(self.max_body_bytes)
        else:
            self._owner.on_request(head, b"")
            return
        self.is_in_body = True
        if head.is_reframed and head.header(b"expect"):
            self._owner.on_expect()

    def _take_body(self, data: bytes) -> bytes:
        """Take what of `data` belongs to the body that is coming in; returns the rest."""
        missing = self._missing_bytes
        self._pieces.append(data if len(data) <= missing else data[:missing])
        self._missing_bytes = max(0, missing - len(data))
        if not self._missing_bytes:
            pieces, self._pieces = self._pieces, []
            self.is_in_body = False
            self._owner.on_request(self._head, pieces[0] if len(pieces) == 1 else b"".join(pieces))
        return data[missing:]

    def _take_chunks(self, chunked: ChunkedBody, data: bytes) -> bytes:
        try:
            rest = chunked.feed(data)
        except BodyRefused as refused:
            return self.refuse(refused.status)
        if chunked.is_whole:
            self._chunked = None
            self.is_in_body = False
            self._owner.on_request(self._head, chunked.body)
        return rest

    # --- httptools --------------------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        """Called by the parser, perhaps with a piece at a time."""
        if self._is_parsed:
            raise ValueError("the head is over for the parser, and goes on for us")
        self._head.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._head.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._is_parsed = True
        self._head.keep_alive = self._parser.should_keep_alive()
