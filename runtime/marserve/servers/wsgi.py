"""Serves one WSGI application on waitress, in a thread of its own.

Owns the listening socket it is given, and what all answers of the control ports share: the error
body, the `HttpAnswered` event. Knows no route and no model.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from waitress import wasyncore  # type: ignore[import-untyped]  # waitress ships no types
from waitress.server import create_server  # type: ignore[import-untyped]  # as above

from marserve.events import Event, HttpAnswered
from marserve.protocols.faults import Fault, fault, fault_body
from marserve.servers.exchange import Timeouts
from marserve.servers.parting import HANDSHAKE_S, refuse_new
from marserve.servers.wsgi_channel import Channel
from marserve.servers.wsgi_headers import common_headers, fault_headers

if TYPE_CHECKING:
    from _typeshed import OptExcInfo

Publish = Callable[[Event], None]
"""Tells the bus. Called from waitress's threads: it must hand over to the loop's thread."""

_log = logging.getLogger("marserve.servers.wsgi")

_LIMITS: dict[str, Any] = {
    "channel_timeout": 30,
    "cleanup_interval": 5,
    # select(), the default, fails on descriptors from 1024 on; the inference port can use many
    "asyncore_use_poll": True,
    "ident": "",
    "expose_tracebacks": False,
    "log_socket_errors": False,
}

_TIMEOUTS = Timeouts(idle_s=30.0)
_CHECK_S = 1.0
_EVICTED = 8
"""So many idle connections make room at a time when there are as many as there may be."""


class WsgiServer:
    """One application on one bound socket. `name` is the port's name in events and threads."""

    def __init__(
        self,
        app: WSGIApplication,
        sock: socket.socket,
        threads: int,
        name: str,
        publish: Publish | None = None,
        most_connections: int = 100,
    ) -> None:
        self._most_connections = most_connections
        self._app = app
        self._sock = sock
        self._threads = threads
        self._name = name
        self._publish = publish
        self._map: dict[int, Any] = {}
        self._server: Any = None
        self._stopping = threading.Event()
        self._drain_s = 0.0
        self._is_shared = False
        self._checked_at = time.monotonic()
        self._thread = threading.Thread(target=self._serve, name=f"{name}-http", daemon=True)

    def start(self) -> None:
        """Begin to answer. Call once."""
        server: Any = create_server(
            self._app,
            map=self._map,
            sockets=[self._sock],
            threads=self._threads,
            connection_limit=self._most_connections,
            **_LIMITS,
        )
        server.channel_class = Channel
        server.refused = self._refused
        self._server = server
        self._thread.start()

    def stop(self, timeout_s: float, *, is_shared: bool = False) -> None:
        """Stop accepting, let running requests end for `timeout_s`, then close everything.

        Whoever waits to be accepted is served, too, unless `is_shared`: then another process goes
        on with the listening socket, and with who waits there.
        """
        if self._server is None:
            self._sock.close()
            return
        if self._stopping.is_set():
            return
        self._drain_s = timeout_s
        self._is_shared = is_shared
        self._stopping.set()
        self._server.pull_trigger()
        self._thread.join(timeout_s + 1)
        if self._thread.is_alive():
            _log.warning("The %s port did not close within %g s.", self._name, timeout_s + 1)

    # --- runs in the server's thread ---

    def _serve(self) -> None:
        while not self._stopping.is_set():
            wasyncore.loop(timeout=_CHECK_S, use_poll=True, map=self._map, count=1)
            self._check_time()
        deadline = time.monotonic() + self._drain_s
        if not self._is_shared:
            self._take_the_rest()
        wasyncore.dispatcher.close(self._server)  # the listener alone; the trigger stays
        while self._busy() and time.monotonic() < deadline:
            wasyncore.loop(timeout=0.05, use_poll=True, map=self._map, count=1)
        self._server.task_dispatcher.shutdown(timeout=max(0.0, deadline - time.monotonic()))
        # a request that outlives the deadline must not write into a descriptor closed below
        self._server.pull_trigger = _do_nothing
        for channel in list(self._server.active_channels.values()):
            channel.linger_until = 0.0
            channel.handle_close()  # unlike close(), this lets go of the temporary files as well
        wasyncore.close_all(self._map, ignore_all=True)

    def _take_the_rest(self) -> None:
        """Closing the socket resets whoever waits to be accepted: they come in first."""
        refuse_new(self._sock)
        end = time.monotonic() + min(HANDSHAKE_S, self._drain_s)
        while time.monotonic() < end:
            wasyncore.loop(timeout=0.01, use_poll=True, map=self._map, count=1)

    def _check_time(self) -> None:
        """End what takes too long; and if all room is taken, what idles longest."""
        now = time.monotonic()
        if now - self._checked_at < _CHECK_S:
            return
        self._checked_at = now
        channels = list(self._server.active_channels.values())
        for channel in channels:
            channel.check_time(now, _TIMEOUTS)
        if self._server.in_connection_overflow:
            idle = sorted((c for c in channels if c.is_idle), key=lambda c: c.idle_since)
            for channel in idle[:_EVICTED]:
                channel.will_close = True

    def _busy(self) -> bool:
        channels = self._server.active_channels.values()
        return any(channel.requests or channel.total_outbufs_len for channel in channels)

    # --- runs in a request thread ---

    def _refused(self, environ: WSGIEnvironment, status: int) -> None:
        if self._publish is not None:
            _tell(self._publish, self._name, environ, status, 0.0)


def answering(app: WSGIApplication, port: str, publish: Publish) -> WSGIApplication:
    """`app` with the headers of every answer, an error body if it raises, and an event."""

    def answered(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started = time.perf_counter()
        status = 500

        def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
            nonlocal status
            status = int(line[:3])
            return start_response(line, headers + common_headers(), exc_info)

        try:
            body = app(environ, start)
        except Exception as error:  # noqa: BLE001  # a front answers whatever happens; fault() logs
            body = fault_answer(fault(error), start, sys.exc_info())
        _tell(publish, port, environ, status, time.perf_counter() - started)
        return body

    return answered


def fault_answer(
    fault: Fault, start_response: StartResponse, exc_info: OptExcInfo | None = None
) -> list[bytes]:
    """Answer with `fault`; `exc_info` is what broke an answer that may have begun."""
    body = fault_body(fault)
    start_response(_status_line(fault.status), fault_headers(fault, body), exc_info)
    return [body]


def _tell(
    publish: Publish, port: str, environ: WSGIEnvironment, status: int, duration_s: float
) -> None:
    """Publish the answer. The query stays out: it can hold signed URLs and tokens."""
    target = environ.get("REQUEST_URI") or environ.get("PATH_INFO") or "/"
    event = HttpAnswered(
        port=port,
        method=environ["REQUEST_METHOD"],
        path=target.partition("?")[0],
        client=_client(environ),
        status=status,
        duration_s=duration_s,
    )
    with suppress(RuntimeError):  # the loop is closed: nobody is left to listen
        publish(event)


def _client(environ: WSGIEnvironment) -> str:
    host, port = environ.get("REMOTE_ADDR", "-"), environ.get("REMOTE_PORT", "-")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _status_line(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"


def _do_nothing() -> None:
    pass
