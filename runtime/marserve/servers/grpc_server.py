"""A listening gRPC port on the event loop: its connections, their time limits, its end."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable

from marserve.protocols.grpc_heads import MAX_METADATA_BYTES, call_head
from marserve.servers.entrance import Entrance, Tls
from marserve.servers.grpc_calls import Calls
from marserve.servers.h2_connection import H2Connection, H2Server, H2Timeouts
from marserve.servers.h2_turn import Turn
from marserve.servers.room import Room
from marserve.servers.sweep import Sweep

DEFAULT_TIMEOUTS = H2Timeouts()
_LOOK_S = 0.01
_QUIET_S = 0.5
"""How long who has come in may say nothing once the port has begun to stop."""
_FLUSH_S = 0.5
"""How long the last answers may take to leave."""


class GrpcServer:
    """Serves an already listening socket. All methods run on the event loop.

    Args:
        calls: what is served.
        context: for TLS; called for each connection, so that a renewed certificate is shown; None:
            without.
        max_age_s: how old a connection may become before its client is asked for another.
        max_age_grace_s: how long what runs on it may still take.
        room: where connections need a place; None: there is always one.
    """

    def __init__(
        self,
        calls: Calls,
        context: Callable[[], ssl.SSLContext] | None = None,
        timeouts: H2Timeouts | None = None,
        max_age_s: float | None = None,
        max_age_grace_s: float | None = None,
        room: Room | None = None,
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
            room,
        )
        self._is_draining = False
        self._entrance: Entrance | None = None
        self._sweep = Sweep(self._connections, H2Connection.check_time)

    async def start(self, sock: socket.socket) -> None:
        """Accept from now on, on a bound socket.

        Raises:
            OSError: somebody else listens there.
        """
        tls = None
        if self._context is not None:
            tls = Tls(self._context(), _Unwelcome, self._timeouts.hello_s)
        connection = self._connection if tls is None else self._secure_connection
        entrance = Entrance(sock, connection, tls)
        await entrance.open()
        self._entrance = entrance
        self._sweep.start()

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let running ones end for `grace_s`, then cancel what is left."""
        await self.drain(grace_s)
        await self.cut()

    async def drain(self, grace_s: float, *, is_shared: bool = False) -> None:
        """Accept no more, and wait until every call has ended, `grace_s` at most.

        `is_shared`: another process goes on with the listening socket.
        """
        deadline = time.monotonic() + grace_s
        self._drain_all()
        if self._entrance is not None:
            await self._entrance.close(is_shared=is_shared)
        self._drain_all()  # who came in meanwhile
        quiet_at = time.monotonic() + _QUIET_S
        while self._is_busy and time.monotonic() < deadline:
            if self._entrance is not None and time.monotonic() >= quiet_at:
                self._entrance.let_go()
            await asyncio.sleep(_LOOK_S)

    async def cut(self) -> None:
        """Refuse what is still running, and close all connections."""
        if self._entrance is not None:
            self._entrance.abort()
        for connection in list(self._connections):
            connection.give_up()
        deadline = time.monotonic() + _FLUSH_S
        while self._connections and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_S)
        for connection in list(self._connections):
            connection.abort()
        while self._connections or self._calls.tasks:
            await asyncio.sleep(_LOOK_S)
        self._sweep.stop()

    @property
    def _is_busy(self) -> bool:
        is_entering = self._entrance is not None and self._entrance.is_busy
        return is_entering or bool(self._connections or self._calls.tasks)

    def _drain_all(self) -> None:
        self._is_draining = True
        for connection in list(self._connections):
            connection.drain()

    def _connection(self) -> H2Connection:
        connection = H2Connection(self._loop, self._h2)
        if self._is_draining:
            connection.drain()
        return connection

    def _secure_connection(self) -> H2Connection:
        """Called before each handshake."""
        if self._context is not None:
            self._context()
        return self._connection()


class _Unwelcome(asyncio.Protocol):
    """Somebody who does not speak TLS to a port that does: gRPC has no word for it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        transport.close()
