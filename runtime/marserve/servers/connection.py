"""One HTTP/1.1 connection on the event loop: its requests in order, its answers, its time, its end.

What the bytes mean is `request_reader.py`'s. Callbacks only; no task is made. Whoever serves an
exchange answers it once, now or later.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from marserve.protocols.faults import Fault, fault_body
from marserve.servers.exchange import Exchange, Timeouts
from marserve.servers.framing import CONTINUE
from marserve.servers.hangup import CHECKS_S, has_hung_up, reset_on_close
from marserve.servers.pace import Pace, Verdict
from marserve.servers.parting import has_unread
from marserve.servers.request_head import RequestHead
from marserve.servers.request_reader import RequestReader
from marserve.servers.room import Room

_MAX_PIPELINED: Final = 16
MAX_UNSENT_BYTES: Final = 64 * 1024 * 1024
"""What may wait for a client that takes a streamed answer more slowly than it is made."""
_LINGER_S: Final = 5.0
_NO_ROOM_LINGER_S: Final = 0.2
_BUSY: Final = fault_body(Fault(503, "ServiceUnavailableException", "All connections are taken."))
_NO_ROOM: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_BUSY), _BUSY)
)
_DRAIN_LINGER_S: Final = 1.0
"""The same when the server is about to end, and the client has been told so."""


class HttpConnection(asyncio.Protocol):
    """Owned by the loop; tells `server` when it comes and goes."""

    room: Room | None = None
    """Where it needs a place; None: there is always one."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        max_body_bytes: int,
        on_request: Callable[[Exchange], None],
        on_refused: Callable[[Exchange, int], None],
        connections: set[HttpConnection],
    ) -> None:
        self._loop = loop
        self._serve = on_request
        self._serve_refusal = on_refused
        self._connections = connections
        self._reader = RequestReader(max_body_bytes, self)
        self._pace = Pace()
        self._lingering: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._current: Exchange | None = None
        self._pipelined: deque[Exchange] = deque()
        self._refused: int | None = None
        self._is_starting = False
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
        host = peer[0] if isinstance(peer, tuple) else "-"
        if self.room is not None and not self.room.enter(self, host, self._since):
            self._transport.write(_NO_ROOM)
            self._end()
            return
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: whatever was being done for this client is of no use any more."""
        self._transport = None
        self._connections.discard(self)
        if self.room is not None:
            self.room.leave(self)
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
        self._is_half_closed = True
        self._reader.end()
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
        self._since = time.monotonic()
        self._reader.feed(data, self._since)

    def pause_writing(self) -> None:
        """Called by the loop: the client does not take its answers. No further one is begun."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Called by the loop."""
        self._is_paused = False
        self._start_next()

    # --- what was read ----------------------------------------------------------------------------

    def on_request(self, head: RequestHead, body: bytes) -> None:
        """A whole request is here: it is served, or waits for its turn."""
        exchange = Exchange(self, head)
        exchange.body = body
        exchange.received_at = self._since
        exchange.keep_alive = head.keep_alive and not self._is_draining
        exchange.is_head = head.method == b"HEAD"
        if self._current is None and not self._is_paused:
            self._current = exchange
            self._serve(exchange)
            return
        self._pipelined.append(exchange)
        if len(self._pipelined) == _MAX_PIPELINED and self._transport is not None:
            self._transport.pause_reading()

    def on_expect(self) -> None:
        """The client waits for a word before it sends the body; what it does next is its risk."""
        if self._transport is not None and self._current is None:
            self._transport.write(CONTINUE)

    def on_refused(self, status: int) -> None:
        """What comes is no request. What came before goes first."""
        if self._transport is None:
            return
        self._refused = status
        if not self._pipelined and self._may_start():
            self._answer_refusal(status)

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
            self._serve(self._current)
        self._is_starting = False
        if self._refused is not None and self._may_start():
            self._answer_refusal(self._refused)

    def _may_start(self) -> bool:
        return not (self._current or self._is_ending or self._is_paused)

    def _answer_refusal(self, status: int) -> None:
        self._refused = None
        self._current = Exchange(self, self._reader.refused_head)
        self._current.keep_alive = False
        self._serve_refusal(self._current, status)

    def _end(self) -> None:
        """Close so that the client can still read the answer while it goes on sending."""
        transport = self._transport
        if transport is None:
            return
        self._is_ending = True
        self._reader.end()
        if transport.can_write_eof() and not self._is_half_closed:
            transport.write_eof()
            transport.resume_reading()  # many pipelined requests may have paused it
            linger_s = _DRAIN_LINGER_S if self._is_draining else _LINGER_S
            if self not in self._connections:  # it had no place
                linger_s = _NO_ROOM_LINGER_S
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
        if self._current is not None:
            self._pace.restart()  # whoever waits for an answer need not be read from meanwhile
            return
        match self._pace.verdict(self._reader, self._since, now, timeouts):
            case Verdict.CLOSE:
                transport.close()
            case Verdict.REFUSE:
                self._reader.refuse(408)

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
            if self._reader.is_in_head or self._reader.is_in_body:
                self._reader.refuse(503)
            elif self._is_idle:
                self._end()
            return
        self._pipelined.clear()
        current.keep_alive = False
        gone, current.on_gone = current.on_gone, None
        if current.begun_status:
            current.cut()
        else:
            self._serve_refusal(current, 503)
        if gone is not None:
            gone()

    @property
    def is_idle(self) -> bool:
        """Whether the client waits for nothing, and has begun nothing."""
        return self._is_idle and not self._pipelined and not self.is_answering

    @property
    def quiet_since(self) -> float:
        """When something was read or answered last; monotonic seconds."""
        return self._since

    def make_room(self) -> None:
        """End at once, for somebody who has something to ask."""
        if self._transport is not None:
            self._reader.end()
            self._transport.close()

    @property
    def is_answering(self) -> bool:
        """Whether something is still to be sent."""
        transport = self._transport
        return transport is not None and transport.get_write_buffer_size() > 0

    @property
    def _is_idle(self) -> bool:
        reader = self._reader
        return not (self._current or reader.is_in_head or reader.is_in_body or reader.is_over)

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()
