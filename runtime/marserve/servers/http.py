"""A listening HTTP port on the event loop: its connections, their time limits, its end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

from marserve.servers.connection import HttpConnection
from marserve.servers.exchange import DEFAULT_TIMEOUTS, Exchange, Timeouts

_SWEEP_S = 1.0
_BACKLOG = 2048


class HttpServer:
    """Serves an already bound socket. All methods run on the event loop."""

    def __init__(
        self,
        sock: socket.socket,
        max_body_bytes: int,
        on_request: Callable[[Exchange], None],
        on_refused: Callable[[Exchange, int], None],
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self._sock = sock
        self._max_body_bytes = max_body_bytes
        self._on_request = on_request
        self._on_refused = on_refused
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._connections: set[HttpConnection] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Accept from now on."""
        self._server = await self._loop.create_server(
            self._connection, sock=self._sock, backlog=_BACKLOG
        )
        self._sweep()

    async def stop(self, grace_s: float) -> None:
        """Accept no more, let running exchanges finish for `grace_s`, then cut what is left."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drain()
        deadline = time.monotonic() + grace_s
        while self._connections and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _connection(self) -> HttpConnection:
        return HttpConnection(
            self._loop,
            self._max_body_bytes,
            self._on_request,
            self._on_refused,
            self._connections,
        )

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self._connections):
            connection.check_time(now, self._timeouts)
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
