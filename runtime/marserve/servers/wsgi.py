"""Serves one WSGI application on waitress, in a thread of its own.

Owns the listening socket it is given, and what all answers of the control ports share: their
headers, the error body, the `HttpAnswered` event. Knows no route and no model.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from waitress import wasyncore  # type: ignore[import-untyped]  # waitress ships no types
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]  # as above
from waitress.server import create_server  # type: ignore[import-untyped]  # as above
from waitress.task import ErrorTask  # type: ignore[import-untyped]  # as above

from marserve.events import Event, HttpAnswered
from marserve.protocols.faults import Fault, fault, fault_body
from marserve.servers.parting import HANDSHAKE_S, refuse_new

if TYPE_CHECKING:
    from _typeshed import OptExcInfo

Publish = Callable[[Event], None]
"""Tells the bus. Called from waitress's threads: it must hand over to the loop's thread."""

_log = logging.getLogger("marserve.servers.wsgi")

MAX_BODY_BYTES = 1024 * 1024
"""What a request to a control port may carry."""

_LIMITS: dict[str, Any] = {
    "max_request_header_size": 32 * 1024,
    "max_request_body_size": MAX_BODY_BYTES + 1,  # waitress refuses what is as large as this
    "inbuf_overflow": 2 * MAX_BODY_BYTES,  # no body goes to a temporary file
    "connection_limit": 100,
    "channel_timeout": 30,
    "cleanup_interval": 5,
    # select(), the default, fails on descriptors from 1024 on; the inference port can use many
    "asyncore_use_poll": True,
    "ident": "",
    "expose_tracebacks": False,
    "log_socket_errors": False,
}

_LINGER_S = 5.0

_TOO_LARGE = f"The request body is larger than {MAX_BODY_BYTES} bytes, the limit of this port."
_REFUSALS = {
    400: Fault(400, "BadRequestException", "Invalid HTTP message."),
    413: Fault(413, "RequestTooLargeException", _TOO_LARGE),
    431: Fault(431, "BadRequestException", "The request line and headers are too large."),
    501: Fault(501, "BadRequestException", "This transfer encoding is not supported."),
    500: Fault(500, "InternalServerException", "The request could not be served."),
}


class WsgiServer:
    """One application on one bound socket. `name` is the port's name in events and threads."""

    def __init__(
        self,
        app: WSGIApplication,
        sock: socket.socket,
        threads: int,
        name: str,
        publish: Publish | None = None,
    ) -> None:
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
        self._thread = threading.Thread(target=self._serve, name=f"{name}-http", daemon=True)

    def start(self) -> None:
        """Begin to answer. Call once."""
        server: Any = create_server(
            self._app, map=self._map, sockets=[self._sock], threads=self._threads, **_LIMITS
        )
        server.channel_class = _Channel
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
            wasyncore.loop(timeout=1, use_poll=True, map=self._map, count=1)
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


def fault_headers(fault: Fault, body: bytes) -> list[tuple[str, str]]:
    """The headers that belong to an error body."""
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if fault.retry_after_s is not None:
        headers.append(("Retry-After", str(fault.retry_after_s)))
    if fault.status == 401:
        headers.append(("WWW-Authenticate", "Bearer"))
    return headers


def common_headers() -> list[tuple[str, str]]:
    """The headers of every answer; TorchServe's values."""
    return [
        ("x-request-id", str(uuid.uuid4())),
        ("Pragma", "no-cache"),
        ("Cache-Control", "no-cache; no-store, must-revalidate, private"),
        ("Expires", "Thu, 01 Jan 1970 00:00:00 UTC"),
    ]


class _RefusalTask(ErrorTask):  # type: ignore[misc]  # waitress ships no types
    """Answers what never reached the application (garbage, too large) in the house's form."""

    request: Any
    channel: Any
    response_headers: Any

    def execute(self) -> None:
        refusal = _REFUSALS.get(self.request.error.code, _REFUSALS[500])
        body = fault_body(refusal)
        self.channel.was_refused = True
        self.channel.server.refused(self._environ(), refusal.status)
        self.status = _status_line(refusal.status)
        self.response_headers.extend(fault_headers(refusal, body) + common_headers())
        self.set_close_on_finish()
        self.content_length = len(body)
        if getattr(self.request, "command", "") != "HEAD":
            self.write(body)

    def _environ(self) -> WSGIEnvironment:
        """As much of the request as could be read."""
        return {
            "REMOTE_ADDR": self.channel.addr[0],
            "REMOTE_PORT": str(self.channel.addr[1]),
            "REQUEST_METHOD": getattr(self.request, "command", "-"),
            "REQUEST_URI": getattr(self.request, "request_uri", "-"),
        }


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress ships no types
    """A connection that ends a refusal gently.

    A socket that is closed with bytes unread makes the kernel reset the connection, and the
    client may then never see why it was refused. So the rest is read and thrown away for a while.
    """

    socket: Any
    error_task_class = _RefusalTask
    was_refused = False
    linger_until: float | None = None
    """Monotonic seconds, once the refusal is out."""
    linger_bytes = 4 * 1024 * 1024

    def handle_close(self) -> None:
        if self.was_refused and self.linger_until is None:
            self.linger_until = time.monotonic() + _LINGER_S
            self.will_close = self.close_when_flushed = False
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
                return
        super().handle_close()

    def readable(self) -> Any:
        return self.linger_until is not None or super().readable()

    def writable(self) -> Any:
        return self.will_close if self.linger_until is not None else super().writable()

    def received(self, data: bytes) -> Any:
        if self.linger_until is None:
            return super().received(data)
        self.linger_bytes -= len(data)
        if self.linger_bytes < 0 or time.monotonic() > self.linger_until:
            self.will_close = True
        return False


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
