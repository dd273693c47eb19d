"""Where connections come in: one listening socket, plain or with TLS, from its opening to its end.

At its end it takes everybody who has been let in, so that closing it resets nobody. A socket that
another process shares loses nobody either way, and is merely left. All methods run on the loop.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from marserve.servers import parting
from marserve.servers.tls_listener import TlsListener

BACKLOG: Final = 2048
_LOOK_S = 0.01

Factory = Callable[[], asyncio.Protocol]


@dataclass(frozen=True, slots=True)
class Tls:
    """What a port with TLS needs besides its protocol."""

    context: ssl.SSLContext
    plain: Factory
    """Makes the protocol for who does not speak TLS."""
    limit_s: float
    """For the first byte, and for the handshake."""


class Entrance:
    """One bound socket, which it owns from `open` on. `connection` makes protocols."""

    def __init__(self, sock: socket.socket, connection: Factory, tls: Tls | None = None) -> None:
        self._sock = sock
        self._connection = connection
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._secure: TlsListener | None = None
        self._late: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def is_busy(self) -> bool:
        """Whether somebody is between the door and being a connection."""
        return bool(self._late) or (self._secure is not None and self._secure.is_busy)

    async def open(self) -> None:
        """Accept from now on.

        Raises:
            OSError: somebody else listens there.
        """
        self._sock.listen(BACKLOG)
        self._sock.setblocking(False)
        tls = self._tls
        if tls is not None:
            self._secure = TlsListener(
                self._sock, tls.context, self._connection, tls.plain, tls.limit_s
            )
        elif self._sock.family == socket.AF_UNIX:
            self._server = await self._loop.create_unix_server(
                self._connection, sock=self._sock, backlog=BACKLOG
            )
        else:
            self._server = await self._loop.create_server(
                self._connection, sock=self._sock, backlog=BACKLOG
            )

    async def close(self, *, is_shared: bool = False) -> None:
        """Accept no more. Whoever has been let in by then still becomes a connection.

        `is_shared`: another process goes on with the socket, and with who waits there.
        """
        if self._is_closed or (self._server is None and self._secure is None):
            return
        self._is_closed = True
        rest = None if is_shared else self._sock.dup()
        if self._server is not None:
            self._server.close()
        elif self._secure is not None:
            self._secure.close()
        if rest is None:
            await asyncio.sleep(_LOOK_S)  # the loop has taken some that are no connections yet
            return
        with rest:
            await self._take_the_rest(rest)

    def let_go(self) -> None:
        """Drop who has come in and said nothing at all."""
        if self._secure is not None:
            self._secure.let_go()

    def abort(self) -> None:
        """Cut whoever is not a connection yet."""
        if self._secure is not None:
            self._secure.abort()
        for task in self._late:
            task.cancel()

    async def _take_the_rest(self, rest: socket.socket) -> None:
        rest.setblocking(False)
        parting.refuse_new(rest)
        end = self._loop.time() + parting.HANDSHAKE_S
        while self._loop.time() < end:
            self._take(parting.waiting(rest))
            await asyncio.sleep(_LOOK_S)
        self._take(parting.waiting(rest))

    def _take(self, connections: list[socket.socket]) -> None:
        for sock in connections:
            if self._secure is not None:
                self._secure.take(sock)
            else:
                task = self._loop.create_task(self._attach(sock))
                self._late.add(task)
                task.add_done_callback(self._late.discard)

    async def _attach(self, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._connection, sock)
        except OSError:  # it is gone already
            sock.close()
