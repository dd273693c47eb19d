"""A listening gRPC port on the event loop: its connections, their time limits, its end."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from typing import Protocol

from marserve.protocols.grpc_heads import MAX_METADATA_BYTES, call_head
from marserve.servers.grpc_calls import Calls
from marserve.servers.h2_connection import H2Connection, H2Server, H2Timeouts
from marserve.servers.h2_turn import Turn
from marserve.servers.tls_listener import TlsListener

DEFAULT_TIMEOUTS = H2Timeouts()
SWEEP_S = 1.0
"""How often it is looked whether clients take too long."""
_LOOK_S = 0.01
_BACKLOG = 2048


class Listener(Protocol):
    """Accepts connections until it is closed."""

    def close(self) -> None:
        """Accept no more."""


class GrpcServer:
    """Serves an already listening socket. All methods run on the event loop.

    Args:
        calls: what is served.
        context: for TLS; called for each connection, so that a renewed certificate is shown; None:
            without.
        max_age_s: how old a connection may become before its client is asked for another.
        max_age_grace_s: how long what runs on it may still take.
    """

    def __init__(
        self,
        calls: Calls,
        context: Callable[[], ssl.SSLContext] | None = None,
        timeouts: H2Timeouts | None = None,
        max_age_s: float | None = None,
        max_age_grace_s: float | None = None,
    ) -> None:
        self._calls = calls
        self._context = context
        self._timeouts = timeouts or DEFAULT_TIMEOUTS
        self._connections: set[H2Connection] = set()
        self._loop = asyncio.get_running_loop()
        self._h2 = H2Server(
            call_head,
            calls.open,
            calls.max_message_bytes,
            MAX_METADATA_BYTES,
            self._connections,
            Turn(self._loop),
            self._timeouts,
            max_age_s,
            max_age_grace_s,
        )
        self._listener: Listener | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, sock: socket.socket) -> None:
        """Accept from now on, on a bound socket.

        Raises:
            OSError: somebody else listens there.
        """
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        if self._context is None:
            self._listener = await self._loop.create_server(
                self._connection, sock=sock, backlog=_BACKLOG
            )
        else:
            self._listener = TlsListener(
                sock,
                self._context(),
                self._secure_connection,
                _Unwelcome,
                self._timeouts.hello_s,
            )
        self._sweep()

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let running ones end for `grace_s`, then cancel what is left."""
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.drain()
        deadline = time.monotonic() + grace_s
        while self._connections and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_S)
        for connection in list(self._connections):
            connection.abort()
        while self._connections or self._calls.tasks:
            await asyncio.sleep(_LOOK_S)
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _connection(self) -> H2Connection:
        return H2Connection(self._loop, self._h2)

    def _secure_connection(self) -> H2Connection:
        """Called before each handshake."""
        if self._context is not None:
            self._context()
        return self._connection()

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self._connections):
            connection.check_time(now)
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)


class _Unwelcome(asyncio.Protocol):
    """Somebody who does not speak TLS to a port that does: gRPC has no word for it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        transport.close()
