"""One request over HTTP and the place for its one answer, whatever carries it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from marserve.servers.framing import LAST_CHUNK, chunk
from marserve.servers.request_head import Field, RequestHead

_LARGE_BYTES = 1 << 16
"""Larger bodies are sent after their head instead of being joined to it."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a client may take, in seconds."""

    idle_s: float = 75.0
    """Between two requests."""
    head_s: float = 10.0
    """From the first byte of a request to the end of its headers; also for a TLS handshake."""
    body_s: float = 30.0
    """Without a byte, in the middle of a body."""
    body_grace_s: float = 10.0
    """Until then a body may come as slowly as it likes."""
    body_bytes_per_s: float = 1024.0
    """After that it must have come as fast as this on the whole."""
    whole_body_s: float = 300.0
    """For all of a body, unless the port takes ones that need longer."""
    large_body_bytes_per_s: float = 1024.0 * 1024
    """How fast the largest body must come that the port takes."""
    write_s: float = 30.0
    """Without taking a byte of an answer."""


DEFAULT_TIMEOUTS = Timeouts()


class Carrier(Protocol):
    """The connection that an exchange came over."""

    client: str
    """`host:port` of whoever asks."""
    is_secure: bool
    """Whether nobody on the way can read along."""

    def answered(self, exchange: Exchange, data: bytes, body: bytes = b"") -> None:
        """Send the answer, or what is left of it: `data`, then `body` where it is large."""

    def sent(self, exchange: Exchange, data: bytes) -> None:
        """Send a part of the answer; more is to come."""

    def cut(self, exchange: Exchange) -> None:
        """End the connection in the middle of an answer, so that its client can tell."""


class Exchange:
    """One request and the place for its one answer.

    The answer comes in one go, by `respond`, or in pieces: `begin`, any number of `write`, and at
    the end `finish`, or `cut` when the rest will never come.
    """

    # Made for every request: what hardly ever differs is an attribute of the class.
    body = b""
    received_at = 0.0
    keep_alive = True
    is_head = False
    """The answer has no body, whatever its head announces."""
    begun_status = 0
    """The status of an answer in pieces, once it has begun and cannot be changed; else 0."""
    on_gone: Callable[[], None] | None = None
    """Called if the client goes away before the end of the answer."""

    def __init__(self, carrier: Carrier, head: RequestHead) -> None:
        self._carrier = carrier
        self.head = head

    @property
    def method(self) -> bytes:
        """As it was sent."""
        return self.head.method

    @property
    def target(self) -> bytes:
        """As it was sent."""
        return self.head.target

    @property
    def headers(self) -> list[Field]:
        """As they were sent."""
        return self.head.headers

    @property
    def takes_chunks(self) -> bool:
        """Whether the client knows chunks; if not, a stream ends where the connection ends."""
        return self.head.takes_chunks

    @property
    def client(self) -> str:
        """`host:port` of whoever asks."""
        return self._carrier.client

    @property
    def is_secure(self) -> bool:
        """Whether the request came over TLS."""
        return self._carrier.is_secure

    def header(self, name: bytes) -> bytes:
        """The first value of a header; `name` in lower case; empty when there is none."""
        return self.head.header(name)

    def respond(self, head: bytes, body: bytes) -> None:
        """Send the answer. `head` ends with the blank line and announces the length of `body`.

        Whether the connection stays open was said in `head` according to `keep_alive`.
        """
        self.on_gone = None
        if self.is_head:
            self._carrier.answered(self, head)
        elif len(body) < _LARGE_BYTES:
            self._carrier.answered(self, head + body)
        else:
            self._carrier.answered(self, head, body)

    # --- an answer in pieces ----------------------------------------------------------------------

    def begin(self, head: bytes, status: int = 200) -> None:
        """Send the head of an answer whose body comes in pieces.

        `head` announces chunks where `takes_chunks`; else it announces nothing, and `keep_alive`
        is False, which the end of the body needs.
        """
        self.begun_status = status
        self._carrier.sent(self, head)

    def write(self, piece: bytes) -> None:
        """Send one piece. A client that does not take what it gets is cut: see `on_gone`."""
        if piece and not self.is_head:
            self._carrier.sent(self, chunk(piece) if self.takes_chunks else piece)

    def finish(self) -> None:
        """Every piece is sent."""
        self.on_gone = None
        has_end = self.takes_chunks and not self.is_head
        self._carrier.answered(self, LAST_CHUNK if has_end else b"")

    def cut(self) -> None:
        """The rest will not come: end the connection so that the client sees the answer broken."""
        self.on_gone = None
        self._carrier.cut(self)
