"""Serves a WSGI application from exchanges: on ports that waitress cannot serve, or shares.

The event loop reads requests and writes answers; the application runs in a few threads. The rest
of what the control ports share (headers, error bodies, events) is in `wsgi.py`, as with waitress.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from wsgiref.types import WSGIApplication

from marserve.events import HttpAnswered
from marserve.protocols.faults import Fault, fault, fault_body
from marserve.servers.environ import environ
from marserve.servers.exchange import Exchange
from marserve.servers.refusals import refusal
from marserve.servers.wsgi import Publish
from marserve.servers.wsgi_headers import common_headers, fault_headers

MAX_WAITING = 100
"""How many requests may wait for a thread; one more is told to come back."""

Headers = list[tuple[str, str]]

_BUSY = Fault(503, "ServiceUnavailableException", "Too many requests. Try again later.", 1)


class WsgiBridge:
    """One application behind exchanges. `name` is the port's name in events and threads."""

    def __init__(
        self, app: WSGIApplication, threads: int, name: str, publish: Publish, max_body_bytes: int
    ) -> None:
        """`app` publishes its own answers; `publish` is for what never reaches it."""
        self._app = app
        self._threads = threads
        self._name = name
        self._publish = publish
        self._max_body_bytes = max_body_bytes
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[Exchange | None] = queue.SimpleQueue()
        self._pending = 0
        self._started = 0

    # --- runs on the event loop ---

    def on_request(self, exchange: Exchange) -> None:
        """Have a thread answer it."""
        if self._pending >= self._threads + MAX_WAITING:
            self._refuse(exchange, _BUSY)
            return
        if len(exchange.body) > self._max_body_bytes:  # a shared port takes larger ones
            self._refuse(exchange, refusal(413, self._max_body_bytes))
            return
        self._pending += 1
        if self._started < min(self._pending, self._threads):
            self._started += 1
            name = f"{self._name}-{self._started}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
        self._waiting.put(exchange)

    def on_refused(self, exchange: Exchange, status: int) -> None:
        """Answer what could not be read as a request."""
        self._refuse(exchange, refusal(status, self._max_body_bytes))

    def close(self) -> None:
        """Let the threads end once they have done what waits. What they answer still goes out."""
        for _ in range(self._started):
            self._waiting.put(None)

    def _refuse(self, exchange: Exchange, refused: Fault) -> None:
        status, headers, body = _refused(refused)
        exchange.keep_alive = False
        exchange.respond(_head(status, headers, False), body)
        self._publish(
            HttpAnswered(
                self._name,
                exchange.method.decode("latin-1") or "-",
                exchange.target.decode("latin-1").partition("?")[0] or "-",
                exchange.client,
                refused.status,
                0.0,
            )
        )

    def _answered(self, exchange: Exchange, head: bytes, body: bytes) -> None:
        self._pending -= 1
        exchange.respond(head, body)

    # --- runs in a thread ---

    def _work(self) -> None:
        while (exchange := self._waiting.get()) is not None:
            try:
                status, headers, body = _call(self._app, exchange)
            except Exception as error:  # noqa: BLE001  a front answers whatever happens
                status, headers, body = _refused(fault(error))
            if int(status[:3]) >= 400:
                exchange.keep_alive = False
            head = _head(status, headers, exchange.keep_alive)
            try:
                self._loop.call_soon_threadsafe(self._answered, exchange, head, body)
            except RuntimeError:  # the loop is closed: nobody is left to answer
                return


def _call(app: WSGIApplication, exchange: Exchange) -> tuple[str, Headers, bytes]:
    begun: list[tuple[str, Headers]] = []
    written: list[bytes] = []

    def start(status: str, headers: Headers, exc_info: Any = None, /) -> Callable[[bytes], object]:
        begun[:] = [(status, headers)]
        return written.append

    chunks = app(environ(exchange), start)
    try:
        written += chunks
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    status, headers = begun[0]
    body = b"".join(written)
    names = {name.lower() for name, _ in headers}
    if "content-length" not in names and int(status[:3]) not in (204, 304):
        headers = [*headers, ("Content-Length", str(len(body)))]
    return status, headers, body


def _refused(refused: Fault) -> tuple[str, Headers, bytes]:
    body = fault_body(refused)
    status = f"{refused.status} {HTTPStatus(refused.status).phrase}"
    return status, fault_headers(refused, body) + common_headers(), body


def _head(status: str, headers: Headers, keep_alive: bool) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
    lines.append("connection: keep-alive" if keep_alive else "connection: close")
    return "\r\n".join((*lines, "", "")).encode("latin-1")
