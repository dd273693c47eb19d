"""Accepts connections for a TLS port: looks at the first byte of each, then gives it to TLS.

The first byte tells a TLS handshake from a plain HTTP request, whose sender gets a proper answer
instead of a broken connection. Both the wait for that byte and the handshake are limited in time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

_log = logging.getLogger("marserve.servers")
_HANDSHAKE = b"\x16"
"""The content type of a TLS record that a handshake begins with."""
_MAX_HANDSHAKES = 1000
"""How many connections may be between the first byte and the end of their handshake."""
_SHUTDOWN_S = 5.0
_RETRY_ACCEPT_S = 1.0

Factory = Callable[[], asyncio.Protocol]


class TlsListener:
    """Owns the accepting of one listening socket. All methods run on the event loop."""

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        secure: Factory,
        plain: Factory,
        limit_s: float,
    ) -> None:
        """Accept at once, and make connections of both kinds; each wait takes `limit_s` at most."""
        self._sock = sock
        self._context = context
        self._secure = secure
        self._plain = plain
        self._limit_s = limit_s
        self._loop = asyncio.get_running_loop()
        self._new: dict[socket.socket, asyncio.TimerHandle] = {}
        self._greetings: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        self._resume()

    @property
    def is_busy(self) -> bool:
        """Whether a handshake is still to come, or under way."""
        return bool(self._new or self._greetings)

    def close(self) -> None:
        """Accept no more; handshakes that have begun go on."""
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def let_go(self) -> None:
        """Drop whoever has not begun the handshake."""
        for sock in list(self._new):
            self._drop(sock)

    def abort(self) -> None:
        """Cut whoever has not finished the handshake."""
        self.let_go()
        for greeting in self._greetings:
            greeting.cancel()

    # --- accepting --------------------------------------------------------------------------------

    def _resume(self) -> None:
        self._retry = None
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        while len(self._new) + len(self._greetings) < _MAX_HANDSHAKES:
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors are left, say
                _log.warning("A connection cannot be accepted: %s.", error.strerror)
                break
            sock.setblocking(False)
            self.take(sock)
        self._loop.remove_reader(self._sock)
        self._retry = self._loop.call_later(_RETRY_ACCEPT_S, self._resume)

    def take(self, sock: socket.socket) -> None:
        """Make a connection of an accepted, non-blocking socket."""
        self._new[sock] = self._loop.call_later(self._limit_s, self._drop, sock)
        self._loop.add_reader(sock, self._look, sock)

    def _drop(self, sock: socket.socket) -> None:
        self._new.pop(sock).cancel()
        self._loop.remove_reader(sock)
        sock.close()

    def _look(self, sock: socket.socket) -> None:
        """The first byte is there, or the end."""
        try:
            first = sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        if not first:
            self._drop(sock)
            return
        self._new.pop(sock).cancel()
        self._loop.remove_reader(sock)
        greeting = self._loop.create_task(self._greet(sock, first == _HANDSHAKE))
        self._greetings.add(greeting)
        greeting.add_done_callback(self._greetings.discard)

    async def _greet(self, sock: socket.socket, is_secure: bool) -> None:
        """Make a connection of it. A handshake that fails is its client's to repeat."""
        try:
            if is_secure:
                await self._loop.connect_accepted_socket(
                    self._secure,
                    sock,
                    ssl=self._context,
                    ssl_handshake_timeout=self._limit_s,
                    ssl_shutdown_timeout=_SHUTDOWN_S,
                )
            else:
                await self._loop.connect_accepted_socket(self._plain, sock)
        except OSError:  # ssl's errors are OSErrors, too
            sock.close()
        except asyncio.CancelledError:
            sock.close()
            raise
