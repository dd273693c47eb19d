"""A listening HTTP port on the event loop: its connections, their time limits, its end."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable

from marserve.servers.connection import HttpConnection
from marserve.servers.entrance import Entrance, Tls
from marserve.servers.exchange import DEFAULT_TIMEOUTS, Exchange, Timeouts
from marserve.servers.https_only import refuse_plain
from marserve.servers.room import Room
from marserve.servers.sweep import Sweep

_LOOK_S = 0.01
_QUIET_S = 0.5
"""For how long an idle client may bring one more request after the port has begun to stop."""
_FLUSH_S = 0.5
"""How long the last answers may take to leave."""


class HttpServer:
    """Serves an already bound socket: TCP, or a unix socket. All methods run on the event loop.

    With `tls` it speaks HTTPS, and tells who sends plain HTTP to it all the same.
    """

    def __init__(
        self,
        sock: socket.socket,
        max_body_bytes: int,
        on_request: Callable[[Exchange], None],
        on_refused: Callable[[Exchange, int], None],
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        tls: ssl.SSLContext | None = None,
        room: Room | None = None,
    ) -> None:
        self._sock = sock
        self._max_body_bytes = max_body_bytes
        self._on_request = on_request
        self._on_refused = on_refused
        self._timeouts = timeouts
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._connections: set[HttpConnection] = set()
        self._is_draining = False
        self._entrance = Entrance(sock, self._connection, self._secured(tls))
        self._sweep = Sweep(self._connections, self._check_time)

    async def start(self) -> None:
        """Accept from now on."""
        await self._entrance.open()
        self._sweep.start()

    async def stop(self, grace_s: float) -> None:
        """Accept no more, let running exchanges finish for `grace_s`, then cut what is left."""
        await self.drain(grace_s)
        await self.cut()

    async def drain(self, grace_s: float, *, is_shared: bool = False) -> None:
        """Accept no more, and wait until all that was accepted is answered, `grace_s` at most.

        Clients between two requests may bring one more for a moment: with each answer they are told
        that it is the last one. `is_shared`: another process goes on with the listening socket.
        """
        deadline = time.monotonic() + grace_s
        self._drain_all()
        await self._entrance.close(is_shared=is_shared)
        self._drain_all()  # who came in meanwhile
        quiet_at = time.monotonic() + _QUIET_S
        while (self._connections or self._entrance.is_busy) and time.monotonic() < deadline:
            if time.monotonic() >= quiet_at:
                self._let_go()
                quiet_at += _QUIET_S / 2
            await asyncio.sleep(_LOOK_S)

    async def cut(self) -> None:
        """Refuse what is still coming in, and close all connections."""
        self._entrance.abort()
        for connection in list(self._connections):
            connection.give_up()
        deadline = time.monotonic() + _FLUSH_S
        while any(one.is_answering for one in self._connections) and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_S)
        for connection in list(self._connections):
            connection.abort()
        self._sweep.stop()

    def _drain_all(self) -> None:
        self._is_draining = True
        for connection in list(self._connections):
            connection.drain()

    def _let_go(self) -> None:
        self._entrance.let_go()
        now = time.monotonic()
        for connection in list(self._connections):
            connection.let_go(now, _QUIET_S)

    def _secured(self, tls: ssl.SSLContext | None) -> Tls | None:
        return None if tls is None else Tls(tls, self._plain_connection, self._timeouts.head_s)

    def _connection(self) -> HttpConnection:
        return self._made(self._on_request)

    def _plain_connection(self) -> HttpConnection:
        return self._made(refuse_plain)

    def _made(self, on_request: Callable[[Exchange], None]) -> HttpConnection:
        connection = HttpConnection(
            self._loop, self._max_body_bytes, on_request, self._on_refused, self._connections
        )
        connection.room = self._room
        if self._is_draining:
            connection.drain()
        return connection

    def _check_time(self, connection: HttpConnection, now: float) -> None:
        connection.check_time(now, self._timeouts)
