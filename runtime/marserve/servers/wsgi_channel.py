"""A connection of waitress that reads requests as the event loop does, with the same limits.

Waitress writes answers and lends threads; what a request is, and how long a client may take over
one, is decided by the one reader that all ports share (`request_reader.py`).
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from wsgiref.types import WSGIEnvironment

from waitress.channel import HTTPChannel  # type: ignore[import-untyped]  # waitress ships no types
from waitress.task import ErrorTask, WSGITask  # type: ignore[import-untyped]  # as above

from marserve.protocols.faults import Fault, fault_body
from marserve.servers.environ import environ
from marserve.servers.exchange import Exchange, Timeouts
from marserve.servers.framing import CONTINUE
from marserve.servers.pace import Pace, Verdict
from marserve.servers.refusals import refusal
from marserve.servers.request_head import RequestHead
from marserve.servers.request_reader import RequestReader
from marserve.servers.wsgi_headers import common_headers, fault_headers

MAX_BODY_BYTES = 1024 * 1024
"""What a request to a control port may carry."""

_LINGER_S = 5.0
_LINGER_BYTES = 4 * 1024 * 1024
_TOO_LARGE = f"The request body is larger than {MAX_BODY_BYTES} bytes, the limit of this port."
_FAILED = Fault(500, "InternalServerException", "The request could not be served.")


class _Request:
    """What waitress wants to know of a request."""

    version = "1.1"
    path = "-"
    error: Any = None
    """None, or what has the status of the refusal as its `code`."""

    def __init__(self, _adjustments: Any = None, exchange: Exchange | None = None) -> None:
        self.exchange = exchange
        self.headers: dict[str, str] = {}
        self.command = "-"
        if exchange is not None:
            self.command = exchange.method.decode("latin-1")
            self.path = exchange.target.decode("latin-1")
            self.version = "1.1" if exchange.takes_chunks else "1.0"
            self.headers["CONNECTION"] = "keep-alive" if exchange.head.keep_alive else "close"

    def close(self) -> None:
        """There is nothing to let go of."""


class _Refused:
    """Why nothing was read."""

    def __init__(self, code: int) -> None:
        self.code = code


class _Task(WSGITask):  # type: ignore[misc]  # waitress ships no types
    """Has the application see what it would see behind the event loop."""

    request: Any

    def get_environment(self) -> WSGIEnvironment:
        assert self.request.exchange is not None
        return environ(self.request.exchange)


class _RefusalTask(ErrorTask):  # type: ignore[misc]  # waitress ships no types
    """Answers what never reached the application (garbage, too large) in the house's form."""

    request: Any
    channel: Any
    response_headers: Any

    def execute(self) -> None:
        refused = _refusal(self.request.error.code)
        body = fault_body(refused)
        self.channel.was_refused = True
        self.channel.server.refused(self._environ(), refused.status)
        self.status = f"{refused.status} {HTTPStatus(refused.status).phrase}"
        self.response_headers.extend(fault_headers(refused, body) + common_headers())
        self.set_close_on_finish()
        self.content_length = len(body)
        if self.request.command != "HEAD":
            self.write(body)

    def _environ(self) -> WSGIEnvironment:
        """As much of the request as is certain."""
        return {
            "REMOTE_ADDR": self.channel.addr[0],
            "REMOTE_PORT": str(self.channel.addr[1]),
            "REQUEST_METHOD": self.request.command,
            "REQUEST_URI": self.request.path,
        }


def _refusal(status: int) -> Fault:
    if status == 413:
        return Fault(413, "RequestTooLargeException", _TOO_LARGE)
    return _FAILED if status == 500 else refusal(status, MAX_BODY_BYTES)


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress ships no types
    """One connection; also the owner of its reader.

    It ends a refusal gently: a socket that is closed with bytes unread makes the kernel reset the
    connection, and the client may then never see why it was refused. So the rest is read and
    thrown away for a while.
    """

    addr: Any
    adj: Any
    requests: Any
    requests_lock: Any
    outbuf_lock: Any
    _flush_some: Any
    server: Any
    socket: Any
    parser_class: Any = _Request
    task_class = _Task
    error_task_class = _RefusalTask
    was_refused = False
    linger_until: float | None = None
    """Monotonic seconds, once the refusal is out."""
    linger_bytes = _LINGER_BYTES
    is_secure = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._reader = RequestReader(MAX_BODY_BYTES, self)
        self._pace = Pace()
        self._read_at = time.monotonic()
        self.client = f"{self.addr[0]}:{self.addr[1]}"

    # --- waitress's -------------------------------------------------------------------------------

    def received(self, data: bytes) -> bool:
        """Called with what was read; whether anything came of it."""
        if self.linger_until is not None:
            self.linger_bytes -= len(data)
            if self.linger_bytes < 0 or time.monotonic() > self.linger_until:
                self.will_close = True
            return False
        with self.requests_lock:
            if self.will_close or self.close_when_flushed:
                return False  # what ends the connection was decided in another thread meanwhile
            self._read_at = time.monotonic()
            self._reader.feed(data, self._read_at)
        return True

    def handle_close(self) -> None:
        """Close, or after a refusal only what is sent, and read on for a while."""
        if self.was_refused and self.linger_until is None:
            self.linger_until = time.monotonic() + _LINGER_S
            self.will_close = self.close_when_flushed = False
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
                return
        super().handle_close()

    def readable(self) -> Any:
        """Whether to read."""
        return self.linger_until is not None or super().readable()

    def writable(self) -> Any:
        """Whether to write, or to close."""
        return self.will_close if self.linger_until is not None else super().writable()

    # --- the reader's -----------------------------------------------------------------------------

    def on_request(self, head: RequestHead, body: bytes) -> None:
        """Have a thread serve it; `requests_lock` is held."""
        exchange = Exchange(self, head)
        exchange.body = body
        self._queue(_Request(exchange=exchange))
        if not head.keep_alive:
            self._reader.end()

    def on_refused(self, status: int) -> None:
        """Have a thread say so, after what was asked before."""
        head = self._reader.refused_head
        request = _Request(exchange=Exchange(self, head) if head.method else None)
        request.error = _Refused(status)
        self._queue(request)

    def on_expect(self) -> None:
        """The client waits for a word before it sends the body."""
        if self.requests:
            return
        with self.outbuf_lock:
            self.outbufs[-1].append(CONTINUE)
            self.current_outbuf_count += len(CONTINUE)
            self.total_outbufs_len += len(CONTINUE)
            self._flush_some()

    def _queue(self, request: _Request) -> None:
        self.requests.append(request)
        if len(self.requests) == 1:
            self.server.add_task(self)

    # --- time -------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked, answered or coming in."""
        reader = self._reader
        is_between = not (reader.is_in_head or reader.is_in_body)
        return is_between and not self.requests and not self.total_outbufs_len

    @property
    def idle_since(self) -> float:
        """When something was read last; monotonic seconds."""
        return self._read_at

    def check_time(self, now: float, timeouts: Timeouts) -> None:
        """End the connection if its client takes too long over a request."""
        if self.requests or self.total_outbufs_len or self.linger_until is not None:
            self._pace.restart()
            return
        match self._pace.verdict(self._reader, self._read_at, now, timeouts):
            case Verdict.CLOSE:
                self.will_close = True
            case Verdict.REFUSE:
                with self.requests_lock:
                    self._reader.refuse(408)

    # --- a carrier's; waitress sends the answers itself ---

    def answered(self, exchange: Exchange, data: bytes, body: bytes = b"") -> None:
        """Nobody answers an exchange here."""
        raise NotImplementedError

    def sent(self, exchange: Exchange, data: bytes) -> None:
        """As `answered`."""
        raise NotImplementedError

    def cut(self, exchange: Exchange) -> None:
        """As `answered`."""
        raise NotImplementedError
