"""One inference request and its one answer, as the floors above the workers pass them on.

Rows travel as named parts of raw bytes: what they mean is decided once, inside the worker, so the
event loop never parses a large body.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from marserve.errors import MarServeError
from marserve.refs import ModelRef

Header: TypeAlias = tuple[str, str]
"""Name and value, spelled as they were received or as the handler set them."""

RequestPart: TypeAlias = tuple[str, str, bytes]
"""Name, content type ("" when none was named) and raw bytes."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """One row for a handler."""

    id: str
    headers: list[Header]
    parts: list[RequestPart]
    explain: bool = False
    url_path: str = ""
    """Path segments after the version, decoded, joined by `/`."""

    @property
    def size_bytes(self) -> int:
        """How much memory the bodies take while the request waits."""
        return sum(len(part[2]) for part in self.parts)


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What the handler answered to one request."""

    body: bytes
    status: int = 200
    phrase: str | None = None
    headers: list[Header] | None = None


Reply: TypeAlias = Answer | MarServeError
"""Exactly one of these reaches whoever asked."""


class Job:
    """A request on its way. It is resolved once; a second resolution changes nothing.

    Owned by one batcher while it waits and by one worker while it runs. `abandon` is for a caller
    that went away: a job that waits is dropped before it reaches a worker, one that runs finishes
    and its answer is thrown away.
    """

    __slots__ = ("_reply_to", "attempts", "dispatched_at", "queued_at", "ref", "request")

    def __init__(
        self, request: Request, queued_at: float, reply_to: Callable[[Job, Reply], None]
    ) -> None:
        self.request = request
        self.queued_at = queued_at
        self.dispatched_at = queued_at
        self.attempts = 0
        self.ref: ModelRef | None = None
        self._reply_to: Callable[[Job, Reply], None] | None = reply_to

    @property
    def is_open(self) -> bool:
        """Whether somebody still waits for the answer."""
        return self._reply_to is not None

    def resolve(self, reply: Reply) -> None:
        """Hand the answer to whoever asked, if nothing was handed to them before."""
        reply_to, self._reply_to = self._reply_to, None
        if reply_to is not None:
            reply_to(self, reply)

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        self._reply_to = None
