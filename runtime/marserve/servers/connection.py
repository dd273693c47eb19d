"""One HTTP/1.1 connection on the event loop: bytes to exchanges, answers to bytes.

Parsing is llhttp's (through httptools), strict. This module adds what a parser leaves open: the
limits of each part, the order of pipelined requests, keep-alive, and time. Callbacks only; no task
is made. Whoever serves an exchange answers it once, now or later.

A head that repeats an earlier one of the connection is not parsed again (`request_head.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

from marserve.servers.exchange import Exchange, Timeouts
from marserve.servers.framing import CONTINUE, is_unambiguous, without_upgrade
from marserve.servers.hangup import CHECKS_S, has_hung_up, reset_on_close
from marserve.servers.parting import has_unread
from marserve.servers.request_head import HeadPattern, RequestHead

MAX_TARGET_BYTES = 8 * 1024
MAX_HEAD_BYTES = 32 * 1024
MAX_FIELDS = 100
_MAX_PIPELINED = 16
MAX_UNSENT_BYTES = 64 * 1024 * 1024
"""What may wait for a client that takes a streamed answer more slowly than it is made."""
_LINGER_S = 5.0
_DRAIN_LINGER_S = 1.0
"""The same when the server is about to end, and the client has been told so."""
_MAX_UNREPEATED = 8
"""So many heads in a row that no request repeated, and no further one is remembered."""


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
        self._begun_in_read = 0
        self._parsed_in_read: RequestHead | None = None
        self._pattern: HeadPattern | None = None
        self._unrepeated = 0
        self._missing_bytes = 0
        """Of a body whose head was not parsed; the parser does not know of it."""
        self._current: Exchange | None = None
        self._pipelined: deque[Exchange] = deque()
        self._refused: int | None = None
        self._is_starting = False
        self._is_discarding = False
        self._is_ending = False
        self._is_half_closed = False
        self._is_draining = False
        self._is_paused = False
        self._streamed_bytes = 0
        self._taken_bytes = 0
        self._taken_at: float | None = None
        self._since = time.monotonic()
        self.client = "-"
        self.is_secure = False

    # --- asyncio.Protocol -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)
        self.is_secure = transport.get_extra_info("sslcontext") is not None
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):  # clients of a unix socket have no name
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

    def eof_received(self) -> bool:
        """Called by the loop: the client sends no more. Returns whether it may still read.

        What it has asked for is answered, unless it turns out to have hung up altogether. To see
        that, something must be sent to it: an interim response, which clients of HTTP/1.1 skip.
        """
        transport = self._transport
        last = self._pipelined[-1] if self._pipelined else self._current
        if transport is None or last is None or self._is_ending or self.is_secure:
            return False
        self._is_discarding = self._is_half_closed = True
        self._incoming = None
        if self._refused is None:
            last.keep_alive = False
        current = self._current
        if current is not None and current.takes_chunks and not current.begun_status:
            transport.write(CONTINUE)
        for delay_s in CHECKS_S:
            self._loop.call_later(delay_s, self._check_hangup)
        return True

    def _check_hangup(self) -> None:
        transport = self._transport
        if transport is not None and has_hung_up(transport.get_extra_info("socket")):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        while data and not self._is_discarding:
            self._since = time.monotonic()
            if self._missing_bytes:
                data = self._take_body(data)
            elif self._pattern is None or self._incoming is not None:
                self._parse(data)
                return
            elif self._pattern.matches(data):
                data = self._repeat(self._pattern, data)
            else:
                self._parse(data)
                return

    def _repeat(self, pattern: HeadPattern, data: bytes) -> bytes:
        """Begin a request whose head is known; returns what of `data` belongs to the next one."""
        self._unrepeated = 0
        head = pattern.head
        start = len(pattern.raw)
        end = start + head.body_bytes
        if head.body_bytes > self._max_body_bytes:
            self._refuse(413)
            return b""
        exchange = Exchange(self, head)
        if len(data) < end:
            self._incoming = exchange
            self._head_since = self._since
            self._missing_bytes = end - len(data)
            self._chunks = [data[start:]]
            return b""
        exchange.body = data[start:end]
        self._completed(exchange)
        return data[end:] if len(data) > end else b""

    def _take_body(self, data: bytes) -> bytes:
        """Take what of `data` belongs to the body that is coming in; returns the rest."""
        missing = self._missing_bytes
        self._chunks.append(data if len(data) <= missing else data[:missing])
        self._missing_bytes = max(0, missing - len(data))
        exchange = self._incoming
        if not self._missing_bytes and exchange is not None:
            self._incoming = None
            exchange.body = b"".join(self._chunks)
            self._chunks = []
            self._completed(exchange)
        return data[missing:]

    def _parse(self, data: bytes) -> None:
        self._begin_read()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(400)
            return
        if self._is_in_head and not self._read_ended_a_message:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431)
        elif self._parsed_in_read is not None and self._begun_in_read == 1:
            self._remember(self._parsed_in_read, data)

    def _begin_read(self) -> None:
        self._read_ended_a_message = False
        self._begun_in_read = 0 if self._incoming is None else 1
        self._parsed_in_read = None

    def _remember(self, head: RequestHead, data: bytes) -> None:
        """Know this head again: `data` begins with it, all of it, and has no other."""
        self._unrepeated += 1
        if self._unrepeated <= _MAX_UNREPEATED:
            self._pattern = HeadPattern.of(head, data[: data.find(b"\r\n\r\n") + 4])
        else:
            self._pattern = None

    def pause_writing(self) -> None:
        """Called by the loop: the client does not take its answers. No further one is begun."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Called by the loop."""
        self._is_paused = False
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
        version = self._parser.get_http_version()
        self._parser = httptools.HttpRequestParser(self)
        return without_upgrade(asking.method, asking.target, version, asking.head.headers)

    # --- httptools --------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._incoming = Exchange(self, RequestHead(b"", b""))
        self._begun_in_read += 1
        self._chunks = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._field_bytes = 0
        self._is_in_head = True
        self._head_since = self._since  # whole heads are timed, not reads: trickling buys nothing

    def on_url(self, url: bytes) -> None:
        """Called by the parser, perhaps with a piece at a time."""
        if self._incoming is not None and not self._is_discarding:
            head = self._incoming.head
            head.target += url
            if len(head.target) > MAX_TARGET_BYTES:
                self._refuse(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser. After the body of a chunked request, trailers come here too."""
        if self._incoming is None or self._is_discarding or not self._is_in_head:
            return
        headers = self._incoming.head.headers
        headers.append((name, value))
        self._field_bytes += len(name) + len(value)
        if len(headers) > MAX_FIELDS or self._field_bytes > MAX_HEAD_BYTES:
            self._refuse(431)

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        exchange = self._incoming
        self._is_in_head = False
        if exchange is None or self._is_discarding:
            return
        head = exchange.head
        head.method = self._parser.get_method()
        if head.method == b"CONNECT":
            self._refuse(400)  # no tunnel is opened here
            return
        if self._parser.should_upgrade():
            return  # this head comes again, see `_without_upgrade`
        exchange.is_head = head.method == b"HEAD"
        head.takes_chunks = self._parser.get_http_version() == "1.1"
        head.keep_alive = exchange.keep_alive = self._parser.should_keep_alive()
        if not is_unambiguous(head.headers):
            self._refuse(400)
            return
        length = head.header(b"content-length")
        if length:
            head.body_bytes = int(length)
            if head.body_bytes > self._max_body_bytes:
                self._refuse(413)
                return
        expect = head.header(b"expect")
        head.is_reframed = not length or expect != b""
        if expect:
            if expect.lower() != b"100-continue":
                self._refuse(417)
            elif self._transport is not None and self._current is None:
                self._transport.write(CONTINUE)
        self._parsed_in_read = head

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
        self._chunks = []
        self._completed(exchange)

    def _completed(self, exchange: Exchange) -> None:
        """A whole request is here: it is served, or waits for its turn."""
        exchange.received_at = self._since
        if self._is_draining:
            exchange.keep_alive = False
        if self._current is None and not self._is_paused:
            self._current = exchange
            self._on_request(exchange)
            return
        self._pipelined.append(exchange)
        if len(self._pipelined) == _MAX_PIPELINED and self._transport is not None:
            self._transport.pause_reading()

    # --- answers ----------------------------------------------------------------------------------

    def answered(self, exchange: Exchange, data: bytes, body: bytes = b"") -> None:
        """Send what belongs to the current exchange, and start the next one if it waits already."""
        if self._transport is None or exchange is not self._current:
            return
        if body:
            self._transport.writelines((data, body))
        elif data:
            self._transport.write(data)
        self._since = time.monotonic()
        self._current = None
        if not exchange.keep_alive:
            self._end()
        elif self._pipelined or self._refused is not None:
            self._start_next()

    def sent(self, exchange: Exchange, data: bytes) -> None:
        """Send a part of the current answer, unless too much of it waits for the client already."""
        transport = self._transport
        if transport is None or transport.is_closing() or exchange is not self._current:
            return
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            transport.abort()
            return
        self._streamed_bytes += len(data)
        transport.write(data)

    def cut(self, exchange: Exchange) -> None:
        """End in the middle of an answer. Without chunks only a reset tells that it is broken."""
        if self._transport is None or exchange is not self._current:
            return
        if not exchange.takes_chunks and not self.is_secure:
            reset_on_close(self._transport.get_extra_info("socket"))
            self._transport.abort()
            return
        self._current = None
        self._end()

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
        if self._refused is not None and self._may_start():
            self._answer_refusal(self._refused)

    def _may_start(self) -> bool:
        return not (self._current or self._is_ending or self._is_paused)

    def _refuse(self, status: int) -> None:
        """Read no further: what follows cannot be told apart. What came before goes first."""
        if self._is_discarding or self._transport is None:
            return
        self._is_discarding = True
        self._incoming = None
        self._chunks = []
        self._refused = status
        if not self._pipelined and self._may_start():
            self._answer_refusal(status)

    def _answer_refusal(self, status: int) -> None:
        self._refused = None
        self._current = Exchange(self, RequestHead(b"", b""))
        self._current.keep_alive = False
        self._on_refused(self._current, status)

    def _end(self) -> None:
        """Close so that the client can still read the answer while it goes on sending."""
        transport = self._transport
        if transport is None:
            return
        self._is_discarding = self._is_ending = True
        if transport.can_write_eof() and not self._is_half_closed:
            transport.write_eof()
            transport.resume_reading()  # many pipelined requests may have paused it
            linger_s = _DRAIN_LINGER_S if self._is_draining else _LINGER_S
            self._lingering = self._loop.call_later(linger_s, transport.close)
        else:
            transport.close()

    # --- what the server tells --------------------------------------------------------------------

    def check_time(self, now: float, timeouts: Timeouts) -> None:
        """Close the connection if its client takes too long."""
        transport = self._transport
        if transport is None:
            return
        unsent_bytes = transport.get_write_buffer_size()
        if unsent_bytes:
            self._check_taken(transport, unsent_bytes, now, timeouts.write_s)
            return
        self._taken_at = None
        if self._current is not None or self._is_discarding:
            return
        if self._is_in_head:
            if now - self._head_since > timeouts.head_s:
                transport.close()
        elif self._incoming is not None:
            if now - self._since > timeouts.body_s:
                self._refuse(408)
        elif now - self._since > timeouts.idle_s:
            transport.close()

    def _check_taken(
        self, transport: asyncio.Transport, unsent_bytes: int, now: float, write_s: float
    ) -> None:
        taken_bytes = self._streamed_bytes - unsent_bytes  # grows with what leaves, and only then
        if self._taken_at is None or taken_bytes != self._taken_bytes:
            self._taken_at = now
        elif now - self._taken_at > write_s:
            transport.abort()
        self._taken_bytes = taken_bytes

    def drain(self) -> None:
        """Serve what the client brings, and tell it with the answer that there is no other."""
        self._is_draining = True
        last = self._pipelined[-1] if self._pipelined else self._current
        if last is not None:
            last.keep_alive = False

    def let_go(self, now: float, quiet_s: float) -> None:
        """Close if nothing was asked for `quiet_s`, and nothing is on its way as far as we know."""
        transport = self._transport
        if transport is None or not self._is_idle or now - self._since < quiet_s:
            return
        if not has_unread(transport.get_extra_info("socket")):
            self._end()

    def give_up(self) -> None:
        """Refuse what is still coming in or being served; answers that are there still leave."""
        current = self._current
        if current is None:
            if self._incoming is not None:
                self._refuse(503)
            elif self._is_idle:
                self._end()
            return
        self._pipelined.clear()
        current.keep_alive = False
        gone, current.on_gone = current.on_gone, None
        if current.begun_status:
            current.cut()
        else:
            self._on_refused(current, 503)
        if gone is not None:
            gone()

    @property
    def is_answering(self) -> bool:
        """Whether something is still to be sent."""
        transport = self._transport
        return transport is not None and transport.get_write_buffer_size() > 0

    @property
    def _is_idle(self) -> bool:
        return not (self._current or self._incoming or self._is_discarding)

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()
