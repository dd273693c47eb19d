"""One request over HTTP and the place for its one answer, whatever carries it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a client may take, in seconds."""

    idle_s: float = 75.0
    """Between two requests."""
    head_s: float = 10.0
    """From the first byte of a request to the end of its headers."""
    body_s: float = 30.0
    """Without a byte, in the middle of a body."""
    write_s: float = 30.0
    """Without taking a byte of an answer."""


DEFAULT_TIMEOUTS = Timeouts()


class Carrier(Protocol):
    """The connection that an exchange came over."""

    client: str
    """`host:port` of whoever asks."""

    def answered(self, exchange: Exchange, data: bytes) -> None:
        """Send the answer."""


class Exchange:
    """One request and the place for its one answer."""

    __slots__ = (
        "_carrier",
        "body",
        "headers",
        "is_head",
        "keep_alive",
        "method",
        "on_gone",
        "received_at",
        "target",
    )

    def __init__(self, carrier: Carrier, method: bytes, target: bytes) -> None:
        self._carrier = carrier
        self.method = method
        self.target = target
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.keep_alive = True
        self.is_head = method == b"HEAD"
        self.received_at = 0.0
        self.on_gone: Callable[[], None] | None = None
        """Called if the client goes away before the answer."""

    @property
    def client(self) -> str:
        """`host:port` of whoever asks."""
        return self._carrier.client

    def header(self, name: bytes) -> bytes:
        """The first value of a header; `name` in lower case; empty when there is none."""
        for key, value in self.headers:
            if len(key) == len(name) and key.lower() == name:
                return value
        return b""

    def respond(self, head: bytes, body: bytes) -> None:
        """Send the answer. `head` ends with the blank line and announces the length of `body`.

        Whether the connection stays open was said in `head` according to `keep_alive`.
        """
        self.on_gone = None
        self._carrier.answered(self, head if self.is_head else head + body)
