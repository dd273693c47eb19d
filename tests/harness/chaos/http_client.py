"""One raw HTTP/1.1 connection that keeps books: nothing that comes over it goes unseen.

An HTTP library hides what this is about: bytes after an answer, an answer that nobody asked for, a
connection that ends in the middle. One request at a time; no pipelining, no retries.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable

from chaos.asks import Ask
from chaos.ledger import BROKEN, GONE, Ledger

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked")
_CLOSES = re.compile(rb"(?i)\r\nconnection: *close")


class HttpClient(asyncio.Protocol):
    """Calls `on_free` whenever it could send, `on_closed` when it never will again."""

    def __init__(
        self,
        ledger: Ledger,
        target: str,
        on_free: Callable[[HttpClient], None],
        on_closed: Callable[[HttpClient], None] = lambda client: None,
    ) -> None:
        self._ledger = ledger
        self._line = f"POST {target} HTTP/1.1\r\nhost: chaos\r\n".encode()
        self._on_free = on_free
        self._on_closed = on_closed
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._first_s = 0.0
        self._last_id = -1
        self.id: int | None = None
        """The request under way."""
        self.is_open = False

    def send(self, id_: int, ask: Ask) -> None:
        """Send one request; none may be under way."""
        assert self._transport is not None
        body = ask.body(id_)
        head = b"%scontent-type: application/octet-stream\r\n" % self._line
        if not ask.may_retry:
            head += b"x-no-retry: 1\r\n"
        if ask.timeout_ms is not None:
            head += b"x-request-timeout-ms: %d\r\n" % ask.timeout_ms
        self.id = self._last_id = id_
        self._first_s = 0.0
        self._ledger.sent(id_, time.monotonic())
        self._transport.write(b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body))

    def hang_up(self) -> None:
        """Go away, whatever is under way."""
        if self.id is not None:
            self._ledger.ended(self.id, GONE, "hung up", time.monotonic())
            self.id = None
        if self._transport is not None:
            self._transport.abort()

    def forsake(self) -> None:
        """Wait no longer. A request under way keeps its row without an answer: it is lost."""
        self.id = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.is_open = True
        self._on_free(self)

    def data_received(self, data: bytes) -> None:
        if self.id is None:
            self._ledger.stray(max(self._last_id, 0), data)
            return
        if not self._first_s:
            self._first_s = time.monotonic()
        self._buffer = self._buffer + data if self._buffer else data
        self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self.id is not None:
            reason = type(exc).__name__ if exc is not None else "end of file"
            self._ledger.ended(self.id, BROKEN, reason, time.monotonic())
            self.id = None
        self._on_closed(self)

    # --- answers ---

    def _read(self) -> None:
        data = self._buffer
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        status = int(data[9:12])
        if status < 200:  # an interim response: the answer is still to come
            self._buffer = data[end + 4 :]
            self._read()
            return
        head = data[: end + 2]
        found = _whole(head, data, end + 4)
        if found is None:
            return
        body, stop = found
        self._buffer = b""
        self._complete(status, body, data[stop:], _CLOSES.search(head) is not None)

    def _complete(self, status: int, body: bytes, rest: bytes, closes: bool) -> None:
        id_, self.id = self.id, None
        assert id_ is not None
        self._ledger.answered(id_, status, body, self._first_s, time.monotonic())
        if rest:
            self._ledger.stray(id_, rest)
        if closes:
            self.close()
        elif self.is_open:
            self._on_free(self)


def _whole(head: bytes, data: bytes, start: int) -> tuple[bytes, int] | None:
    """Body and where the answer ends; None: more must come."""
    length = _LENGTH.search(head)
    if length is not None:
        stop = start + int(length[1])
        return (data[start:stop], stop) if len(data) >= stop else None
    return _dechunked(data, start) if _CHUNKED.search(head) else (b"", start)


def _dechunked(data: bytes, at: int) -> tuple[bytes, int] | None:
    pieces = []
    while True:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return None
        size = int(data[at:line_end].split(b";")[0], 16)
        at = line_end + 2 + size + 2
        if len(data) < at:
            return None
        if size == 0:
            return b"".join(pieces), at
        pieces.append(data[line_end + 2 : at - 2])
