"""One HTTP/1.1 connection on the event loop: bytes to exchanges, answers to bytes.

Parsing is llhttp's (through httptools), strict. This module adds what a parser leaves open: the
limits of each part, the order of pipelined requests, keep-alive, and time. Callbacks only; no task
is made. Whoever serves an exchange calls `respond` once, now or later.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

from marserve.servers.exchange import Exchange, Timeouts

MAX_TARGET_BYTES = 8 * 1024
MAX_HEAD_BYTES = 32 * 1024
MAX_FIELDS = 100
_MAX_PIPELINED = 16
_LINGER_S = 5.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HttpConnection(asyncio.Protocol):
    """Owned by the loop; tells `server` when it comes and goes."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        max_body_bytes: int,
        on_request: Callable[[Exchange], None],
        on_refused: Callable[[Exchange, int], None],
        connections: set[HttpConnection],
    ) -> None:
        self._loop = loop
        self._max_body_bytes = max_body_bytes
        self._on_request = on_request
        self._on_refused = on_refused
        self._connections = connections
        self._lingering: asyncio.TimerHandle | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._incoming: Exchange | None = None
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._field_bytes = 0
        self._is_in_head = False
        self._head_since = 0.0
        self._read_ended_a_message = False
        self._current: Exchange | None = None
        self._pipelined: deque[Exchange] = deque()
        self._is_starting = False
        self._is_discarding = False
        self._is_draining = False
        self._write_stalled_at: float | None = None
        self._unsent_bytes = 0
        self._since = time.monotonic()
        self.client = "-"

    # --- asyncio.Protocol -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if peer:
            self.client = f"{peer[0]}:{peer[1]}"
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: whatever was being done for this client is of no use any more."""
        self._transport = None
        self._connections.discard(self)
        if self._lingering is not None:
            self._lingering.cancel()
        for exchange in (self._current, *self._pipelined):
            if exchange is not None and exchange.on_gone is not None:
                exchange.on_gone()
        self._pipelined.clear()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._is_discarding:
            return
        self._since = time.monotonic()
        self._read_ended_a_message = False
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(400)
            return
        if self._is_in_head and not self._read_ended_a_message:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431)

    def pause_writing(self) -> None:
        """Called by the loop: the client does not take its answers. No further one is begun."""
        self._write_stalled_at = time.monotonic()
        self._unsent_bytes = 0

    def resume_writing(self) -> None:
        """Called by the loop."""
        self._write_stalled_at = None
        self._start_next()

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._incoming is None:
                    return
                data = self._without_upgrade(self._incoming) + data[upgrade.args[0] :]
            else:
                return

    def _without_upgrade(self, asking: Exchange) -> bytes:
        """The head that asked for another protocol, less that wish, for a new parser.

        The old one reads no body after such a head, and would take the body for a request. None
        but this protocol is spoken here, in which the client then goes on (RFC 9110, 7.8).
        """
        lines = [
            b"%s %s HTTP/%s"
            % (asking.method, asking.target, self._parser.get_http_version().encode())
        ]
        lines += [b"%s: %s" % field for field in asking.headers if field[0].lower() != b"upgrade"]
        self._parser = httptools.HttpRequestParser(self)
        return b"\r\n".join((*lines, b"", b""))

    # --- httptools --------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._incoming = Exchange(self, b"", b"")
        self._chunks = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._field_bytes = 0
        self._is_in_head = True
        self._head_since = self._since  # whole heads are timed, not reads: trickling buys nothing

    def on_url(self, url: bytes) -> None:
        """Called by the parser, perhaps with a piece at a time."""
        if self._incoming is not None and not self._is_discarding:
            self._incoming.target += url
            if len(self._incoming.target) > MAX_TARGET_BYTES:
                self._refuse(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser. After the body of a chunked request, trailers come here too."""
        if self._incoming is None or self._is_discarding or not self._is_in_head:
            return
        self._incoming.headers.append((name, value))
        self._field_bytes += len(name) + len(value)
        if len(self._incoming.headers) > MAX_FIELDS or self._field_bytes > MAX_HEAD_BYTES:
            self._refuse(431)

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        exchange = self._incoming
        self._is_in_head = False
        if exchange is None or self._is_discarding:
            return
        exchange.method = self._parser.get_method()
        if exchange.method == b"CONNECT":
            self._refuse(400)  # no tunnel is opened here
            return
        if self._parser.should_upgrade():
            return  # this head comes again, see `_without_upgrade`
        exchange.is_head = exchange.method == b"HEAD"
        exchange.keep_alive = self._parser.should_keep_alive()
        if not _is_unambiguous(exchange.headers):
            self._refuse(400)
            return
        length = exchange.header(b"content-length")
        if length and int(length) > self._max_body_bytes:
            self._refuse(413)
            return
        expect = exchange.header(b"expect")
        if expect:
            if expect.lower() != b"100-continue":
                self._refuse(417)
            elif self._transport is not None and self._current is None:
                self._transport.write(_CONTINUE)

    def on_body(self, chunk: bytes) -> None:
        """Called by the parser."""
        if self._is_discarding:
            return
        self._chunks.append(chunk)
        self._body_bytes += len(chunk)
        if self._body_bytes > self._max_body_bytes:
            self._refuse(413)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._parser.should_upgrade():
            return
        self._read_ended_a_message = True
        exchange, self._incoming = self._incoming, None
        if exchange is None or self._is_discarding:
            return
        chunks = self._chunks
        exchange.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        exchange.received_at = time.monotonic()
        if self._is_draining:
            exchange.keep_alive = False
        if self._current is None and self._write_stalled_at is None:
            self._current = exchange
            self._on_request(exchange)
            return
        self._pipelined.append(exchange)
        if len(self._pipelined) == _MAX_PIPELINED and self._transport is not None:
            self._transport.pause_reading()

    # --- answers ----------------------------------------------------------------------------------

    def answered(self, exchange: Exchange, data: bytes) -> None:
        """Send what belongs to the current exchange, and start the next one if it waits already."""
        if self._transport is None or exchange is not self._current:
            return
        self._transport.write(data)
        self._since = time.monotonic()
        self._current = None
        if not exchange.keep_alive:
            self._end()
        elif self._pipelined or self._is_draining:
            self._start_next()

    def _start_next(self) -> None:
        """Serve what waits, in a loop: who answers at once comes back to `answered` from within."""
        if self._is_starting:
            return
        self._is_starting = True
        while self._pipelined and self._may_start():
            if len(self._pipelined) == _MAX_PIPELINED and self._transport is not None:
                self._transport.resume_reading()
            self._current = self._pipelined.popleft()
            self._on_request(self._current)
        self._is_starting = False
        if self._is_draining and self._may_start():
            self._end()

    def _may_start(self) -> bool:
        return not (self._current or self._is_discarding or self._write_stalled_at is not None)

    def _refuse(self, status: int) -> None:
        """Answer with an error and read no further: what follows cannot be told apart."""
        if self._is_discarding or self._transport is None:
            return
        self._is_discarding = True
        self._incoming = None
        self._chunks = []
        exchange = Exchange(self, b"", b"")
        exchange.keep_alive = False
        if self._current is not None:
            self._pipelined.append(exchange)  # never reached: the connection closes first
            self._current.keep_alive = False
            return
        self._current = exchange
        self._on_refused(exchange, status)

    def _end(self) -> None:
        """Close so that the client can still read the answer while it goes on sending."""
        transport = self._transport
        if transport is None:
            return
        self._is_discarding = True
        if transport.can_write_eof():
            transport.write_eof()
            transport.resume_reading()  # many pipelined requests may have paused it
            self._lingering = self._loop.call_later(_LINGER_S, transport.close)
        else:
            transport.close()

    # --- what the server tells --------------------------------------------------------------------

    def check_time(self, now: float, timeouts: Timeouts) -> None:
        """Close the connection if its client takes too long."""
        if self._transport is None:
            return
        if self._write_stalled_at is not None:
            unsent_bytes = self._transport.get_write_buffer_size()
            if unsent_bytes < self._unsent_bytes:
                self._write_stalled_at = now
            elif now - self._write_stalled_at > timeouts.write_s:
                self._transport.abort()
            self._unsent_bytes = unsent_bytes
        elif self._current is not None or self._is_discarding:
            return
        elif self._is_in_head:
            if now - self._head_since > timeouts.head_s:
                self._transport.close()
        elif self._incoming is not None:
            if now - self._since > timeouts.body_s:
                self._refuse(408)
        elif now - self._since > timeouts.idle_s:
            self._transport.close()

    def drain(self) -> None:
        """Close as soon as nothing is being done for the client."""
        self._is_draining = True
        if self._current is not None:
            self._current.keep_alive = False
        elif self._incoming is None and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()


def _is_unambiguous(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether everybody on the way must understand the head alike: one host, plain chunks."""
    hosts = 0
    for name, value in headers:
        match len(name), name.lower():
            case 4, b"host":
                hosts += 1
            case 17, b"transfer-encoding" if _codings(value) != [b"chunked"]:
                return False
    return hosts <= 1


def _codings(value: bytes) -> list[bytes]:
    """The elements of a list field; empty ones do not count."""
    elements = [element.strip(b" \t").lower() for element in value.split(b",")]
    return [element for element in elements if element]
