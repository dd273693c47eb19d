"""A listening HTTP port on the event loop: its connections, their time limits, its end."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from typing import Protocol

from marserve.servers.connection import HttpConnection
from marserve.servers.exchange import DEFAULT_TIMEOUTS, Exchange, Timeouts
from marserve.servers.https_only import refuse_plain
from marserve.servers.tls_listener import TlsListener

_SWEEP_S = 1.0
_BACKLOG = 2048


class Listener(Protocol):
    """Accepts connections until it is closed."""

    def close(self) -> None:
        """Accept no more."""


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
    ) -> None:
        self._sock = sock
        self._max_body_bytes = max_body_bytes
        self._on_request = on_request
        self._on_refused = on_refused
        self._timeouts = timeouts
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._connections: set[HttpConnection] = set()
        self._listener: Listener | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Accept from now on."""
        self._listener = await self._listen()
        self._sweep()

    async def stop(self, grace_s: float) -> None:
        """Accept no more, let running exchanges finish for `grace_s`, then cut what is left."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in list(self._connections):
            connection.drain()
        deadline = time.monotonic() + grace_s
        while self._connections and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def _listen(self) -> Listener:
        if self._tls is not None:
            self._sock.listen(_BACKLOG)
            return TlsListener(
                self._sock,
                self._tls,
                self._connection,
                self._plain_connection,
                self._timeouts.head_s,
            )
        if self._sock.family == socket.AF_UNIX:
            return await self._loop.create_unix_server(
                self._connection, sock=self._sock, backlog=_BACKLOG
            )
        return await self._loop.create_server(self._connection, sock=self._sock, backlog=_BACKLOG)

    def _connection(self) -> HttpConnection:
        return HttpConnection(
            self._loop,
            self._max_body_bytes,
            self._on_request,
            self._on_refused,
            self._connections,
        )

    def _plain_connection(self) -> HttpConnection:
        return HttpConnection(
            self._loop, self._max_body_bytes, refuse_plain, self._on_refused, self._connections
        )

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self._connections):
            connection.check_time(now, self._timeouts)
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
