"""One HTTP/1.1 connection of a client on the event loop: one request at a time, callbacks only.

Says of each answer its status and, of a refusal, its body; the bodies of successes are skipped.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Protocol, cast

import httptools

from marserve.bench.endpoint import Endpoint
from marserve.client import ServerUnreachable

_CONNECT_TIMEOUT_S = 5.0
_MAX_KEPT_BYTES = 64 * 1024


class Owner(Protocol):
    """Who sends over a connection. Its methods are called on the loop."""

    keeps_bodies: bool
    """Whether it wants the bodies of successes, too, and whole."""

    def answered(self, status: int, body: bytes) -> None:
        """The answer has come; the connection is free again."""

    def lost(self, reason: str) -> None:
        """The connection has ended, idle or with a request under way."""


class Connection(asyncio.Protocol):
    """Owned by `owner`."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._body: list[bytes] = []
        self._kept_bytes = 0
        self._keeps_body = False

    def send(self, message: bytes) -> None:
        """Send one whole request; nothing may be under way."""
        if self._transport is not None:
            self._transport.write(message)

    def abort(self) -> None:
        """Close it now; the owner is told."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._transport = None
        reason = reason_of(exc) if exc is not None else "the server closed the connection"
        self._owner.lost(reason)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.abort()

    # --- httptools ---

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._keeps_body = self._owner.keeps_bodies or self._parser.get_status_code() >= 300

    def on_body(self, chunk: bytes) -> None:
        """Called by the parser."""
        if self._keeps_body and (self._owner.keeps_bodies or self._kept_bytes < _MAX_KEPT_BYTES):
            self._body.append(chunk)
            self._kept_bytes += len(chunk)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        status = self._parser.get_status_code()
        if status < 200:  # an interim response: the answer is still to come
            return
        body = b""
        if self._body:
            body = b"".join(self._body)
            self._body = []
            self._kept_bytes = 0
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._transport.close()
        self._owner.answered(status, body)


async def connect(endpoint: Endpoint, owner: Owner) -> Connection:
    """Open a connection.

    Raises:
        ServerUnreachable: nobody answers there.
    """
    loop = asyncio.get_running_loop()
    connection = Connection(owner)
    tls = ssl.create_default_context() if endpoint.is_secure else None
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            if endpoint.socket_path:
                await loop.create_unix_connection(lambda: connection, endpoint.socket_path)
            else:
                await loop.create_connection(
                    lambda: connection, endpoint.host, endpoint.port, ssl=tls
                )
    except OSError as error:  # TimeoutError and ssl.SSLError are of this kind
        raise ServerUnreachable(
            f"No server answers at {endpoint.url} ({reason_of(error)}). "
            "`marserve status` tells whether one runs; `marserve start` starts one."
        ) from error
    return connection


def reason_of(error: Exception) -> str:
    """Why a connection could not be made or was lost, in lower case, without a full stop."""
    strerror = error.strerror if isinstance(error, OSError) else None
    if isinstance(error, ConnectionError) and error.errno:
        strerror = os.strerror(error.errno)  # event loops write sentences of their own
    if isinstance(error, TimeoutError) and not strerror:
        strerror = "it did not answer in time"
    return (strerror or str(error) or type(error).__name__).lower().rstrip(".")


class _Call:
    """The owner of a connection for a single request."""

    keeps_bodies = True

    def __init__(self) -> None:
        self.answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

    def answered(self, status: int, body: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result((status, body))

    def lost(self, reason: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(ConnectionError(reason))


async def call(endpoint: Endpoint, message: bytes, timeout_s: float) -> tuple[int, bytes]:
    """One request over a connection of its own; the status and the body of the answer.

    Raises:
        ServerUnreachable: nobody answers there, or not in time.
    """
    owner = _Call()
    connection = await connect(endpoint, owner)
    try:
        connection.send(message)
        async with asyncio.timeout(timeout_s):
            return await owner.answer
    except TimeoutError:
        raise ServerUnreachable(
            f"{endpoint.url} has not answered within {timeout_s:g} s."
        ) from None
    except ConnectionError as error:
        raise ServerUnreachable(
            f"{endpoint.url} broke off the call ({reason_of(error)})."
        ) from error
    finally:
        owner.answer.cancel()
        connection.abort()
