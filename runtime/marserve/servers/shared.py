"""One port for several APIs: decides which of them a request is for. Runs on the event loop.

TorchServe asks its inference routes first, and they take every path of the form `/models/a/b`; so
on a shared port a version can neither be described nor scaled nor unregistered. Here that form is
inference only where it ends in `/invoke`; everything else below `/models` is management.
"""

from __future__ import annotations

from typing import Protocol

from marserve.servers.exchange import Exchange

_MANAGEMENT = frozenset({b"models", b"workflows", b"token"})


class Front(Protocol):
    """Whoever serves exchanges."""

    def on_request(self, exchange: Exchange) -> None:
        """Serve one exchange."""

    def on_refused(self, exchange: Exchange, status: int) -> None:
        """Answer what could not be read as a request."""


class SharedFront:
    """Gives each exchange to the one front that it is for.

    A front that is None is not on this port. What belongs to nobody goes to `first`, which also
    answers what could not be read, and describes the API.
    """

    def __init__(
        self, first: Front, management: Front | None = None, metrics: Front | None = None
    ) -> None:
        self._first = first
        self._management = management or first
        self._metrics = metrics or first
        self.on_refused = first.on_refused

    def on_request(self, exchange: Exchange) -> None:
        """Serve one exchange."""
        segments = exchange.target.partition(b"?")[0].strip(b"/").split(b"/")
        if segments[0] == b"metrics":
            self._metrics.on_request(exchange)
        elif is_management(segments):
            self._management.on_request(exchange)
        else:
            self._first.on_request(exchange)


def is_management(segments: list[bytes]) -> bool:
    """Whether a path of these segments belongs to the management API."""
    if segments[0] in _MANAGEMENT:
        return not (len(segments) == 3 and segments[2] == b"invoke")
    return len(segments) == 3 and segments[:2] == [b"v1", b"models"] and b":" not in segments[2]
