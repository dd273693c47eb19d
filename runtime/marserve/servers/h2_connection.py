"""One HTTP/2 connection on the event loop: how it begins, how long it may be silent, how it ends.

Callbacks only; no task is made. What goes on in between is `h2_streams`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from marserve.protocols import h2_frames as h2
from marserve.protocols.h2_frames import ConnectionBroken, ErrorCode
from marserve.protocols.h2_headers import Fields
from marserve.servers.h2_stream import STREAM_WINDOW
from marserve.servers.h2_streams import (
    DRAINING,
    MAX_STREAMS,
    PATIENCE,
    WINDOW,
    H2Streams,
    OpenStream,
)
from marserve.servers.h2_turn import Turn
from marserve.servers.room import Room

PATIENCE_PER_S: Final = 200
"""How fast a client is forgiven what it did for nothing."""
_UNSENT_BYTES = 1 << 20
_LINGER_S = 1.0
_KEEPALIVE: Final = b"are you?"
_PLEASE: Final = b"This port speaks gRPC, which begins with HTTP/2.\n"
_NO_HTTP2: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_PLEASE), _PLEASE)
)


@dataclass(frozen=True, slots=True)
class H2Timeouts:
    """How long a client may take, in seconds."""

    hello_s: float = 10.0
    """To begin; also for the end of a header block that has begun."""
    write_s: float = 30.0
    """Without taking a byte of what is sent."""
    silent_s: float = 120.0
    """Without a byte, before it is asked whether it is there."""
    echo_s: float = 20.0
    """To answer that."""
    goodbye_s: float = 2.0
    """To say that it has heard that the connection is to end."""


@dataclass(frozen=True, slots=True)
class H2Server:
    """What the connections of one port have in common."""

    understand: Callable[[Fields], Any]
    """Makes of header fields what `open_stream` wants; it never raises."""
    open_stream: OpenStream
    max_message_bytes: int
    max_metadata_bytes: int
    """What clients are told not to exceed."""
    connections: set[H2Connection]
    """Those that are open."""
    turn: Turn
    timeouts: H2Timeouts
    max_age_s: float | None
    max_age_grace_s: float | None
    room: Room | None = None
    """Where connections need a place; None: there is always one."""


class H2Connection(asyncio.Protocol):
    """Owned by the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: H2Server) -> None:
        self._loop = loop
        self._server = server
        self._streams = H2Streams(
            self, loop, server.turn, server.understand, server.open_stream, server.max_message_bytes
        )
        self._output = self._streams.output
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._has_greeted = self._is_draining = False
        self._is_heard = True
        self._heard_at = self._begun_at = time.monotonic()
        self._asked_at: float | None = None
        self._drained_at: float | None = None
        self._unsent_bytes = 0
        self._taken_at = self._heard_at
        self._timers: list[asyncio.TimerHandle] = []

    # --- asyncio.Protocol -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(_UNSENT_BYTES)
        peer = transport.get_extra_info("peername")
        room = self._server.room
        if room is not None and not room.enter(
            self, peer[0] if isinstance(peer, tuple) else "-", self._heard_at
        ):
            self._output.attach(self._transport)
            self._turn_away()
            return
        if isinstance(peer, tuple):
            host = f"[{peer[0]}]" if ":" in peer[0] else peer[0]
            self._streams.client = f"{host}:{peer[1]}"
            if self._server.max_age_s is not None:
                age_s = self._server.max_age_s * _spread(peer[1])
                self._timers.append(self._loop.call_later(age_s, self._age))
        self._server.connections.add(self)
        self._output.attach(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: whatever was being done for this client is of no use any more."""
        self._transport = None
        self._server.connections.discard(self)
        if self._server.room is not None:
            self._server.room.leave(self)
        for timer in self._timers:
            timer.cancel()
        self._streams.end_all()
        self._output.detach()

    def pause_writing(self) -> None:
        """Called by the loop: the client does not read, so nothing is read from it either."""
        self._output.pause()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Called by the loop."""
        self._output.resume()
        if self._transport is not None:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        streams = self._streams
        if streams.is_over:
            return
        self._is_heard = True
        if self._rest:
            data = self._rest + data
        try:
            at = 0 if self._has_greeted else self._greet(data)
            if self._has_greeted:
                self._rest = data[streams.read(data, at) :]
        except ConnectionBroken as broken:
            self._output.write(h2.goaway(streams.last_id, broken.code, broken.reason))
            self._end()

    def _greet(self, data: bytes) -> int:
        """See whether this is HTTP/2. Returns how much of it is read."""
        size = len(h2.PREFACE)
        if not h2.PREFACE.startswith(data[:size]):
            if b" HTTP/1." in data:
                self._output.write(_NO_HTTP2)
            self._end()
            return 0
        if len(data) < size:
            self._rest = data
            return 0
        self._has_greeted = True
        values = {
            h2.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            h2.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            h2.MAX_HEADER_LIST_SIZE: self._server.max_metadata_bytes,
        }
        widened = h2.window_update(0, WINDOW - h2.DEFAULT_WINDOW)
        self._output.write(h2.settings(values) + widened)
        if self._is_draining:  # it came in just before the port closed
            self._say_goodbye()
        return size

    # --- the end ----------------------------------------------------------------------------------

    def drain(self) -> None:
        """Ask the client to go elsewhere; serve what it has begun, and what is on its way."""
        if self._is_draining or self._streams.is_over:
            return
        self._is_draining = True
        self._drained_at = time.monotonic()
        if self._has_greeted:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        goaway = h2.goaway(h2.MAX_STREAM_ID, ErrorCode.NO_ERROR)
        self._output.write(goaway + h2.ping(DRAINING, is_answer=False))

    def take_no_more(self) -> None:
        """The client has heard of `drain`, or has had the time to."""
        streams = self._streams
        if streams.is_closed or not self._is_draining:
            return
        streams.is_closed = True
        self._output.write(h2.goaway(streams.last_id, ErrorCode.NO_ERROR))
        if streams.is_empty:
            self._end()

    def emptied(self) -> None:
        """Everything is answered that the client may still expect."""
        self._end()

    def give_up(self) -> None:
        """Refuse the calls that are open; their answers still leave."""
        self.drain()
        self.take_no_more()
        self._streams.refuse_all()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._output.flush()
            self._transport.abort()

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way, and none has begun to come."""
        streams = self._streams
        return streams.is_empty and not (streams.is_over or streams.is_in_block or self._rest)

    @property
    def quiet_since(self) -> float:
        """When it was noticed last that the client says something; monotonic seconds."""
        return self._heard_at

    def make_room(self) -> None:
        """End at once, for somebody who has something to ask."""
        self._output.write(h2.goaway(self._streams.last_id, ErrorCode.NO_ERROR))
        self._end()

    def _turn_away(self) -> None:
        reason = "All connections are taken."
        goaway = h2.goaway(0, ErrorCode.ENHANCE_YOUR_CALM, reason)
        self._output.write(h2.settings({}) + goaway)
        self._end()

    def _age(self) -> None:
        self.drain()
        if self._server.max_age_grace_s is not None:
            self._timers.append(self._loop.call_later(self._server.max_age_grace_s, self.abort))

    def _end(self) -> None:
        """Close so that the client can still read what was sent."""
        transport = self._transport
        if self._streams.is_over or transport is None:
            return
        self._rest = b""
        self._streams.end_all()
        self._output.flush()
        if transport.can_write_eof():
            transport.write_eof()
            transport.resume_reading()
            self._timers.append(self._loop.call_later(_LINGER_S, transport.close))
        else:
            transport.close()

    # --- time -------------------------------------------------------------------------------------

    def check_time(self, now: float) -> None:
        """Close the connection if its client takes too long. Called about once a second."""
        transport, streams, limits = self._transport, self._streams, self._server.timeouts
        if transport is None:
            return
        if self._is_heard:
            self._is_heard, self._heard_at, self._asked_at = False, now, None
        streams.patience = min(streams.patience + PATIENCE_PER_S, PATIENCE)
        if streams.has_settings and not streams.is_in_block:
            self._begun_at = now
        if self._is_stuck(transport, now, limits.write_s):
            transport.abort()
        elif now - self._begun_at > limits.hello_s:
            transport.close()
        elif self._drained_at is not None and now - self._drained_at > limits.goodbye_s:
            self.take_no_more()
        elif self._asked_at is not None:
            if now - self._asked_at > limits.echo_s:
                transport.abort()
        elif now - self._heard_at > limits.silent_s:
            self._asked_at = now
            self._output.write(h2.ping(_KEEPALIVE, is_answer=False))

    def _is_stuck(self, transport: asyncio.Transport, now: float, write_s: float) -> bool:
        """Whether what the transport has to send did not become less for too long.

        Nothing is added while it is full, because nothing is read then.
        """
        unsent_bytes = transport.get_write_buffer_size()
        if not unsent_bytes or unsent_bytes < self._unsent_bytes:
            self._taken_at = now
        self._unsent_bytes = unsent_bytes
        return now - self._taken_at > write_s


def _spread(port: int) -> float:
    """0.9 to 1.1: clients that came together must not all come back together."""
    return 0.9 + port % 21 / 100
