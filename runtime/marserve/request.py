"""One inference request and its one answer, as the floors above the workers pass them on.

Rows travel as named parts of raw bytes: what they mean is decided once, inside the worker, so the
event loop never parses a large body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar, Final, Protocol, TypeAlias

import msgspec

from marserve.errors import MarServeError

Header: TypeAlias = tuple[str, str]
"""Name and value, spelled as they were received or as the handler set them."""

RequestPart: TypeAlias = tuple[str, str, bytes]
"""Name, content type ("" when none was named) and raw bytes."""

CRITICAL: Final = 0
HIGH: Final = 1
NORMAL: Final = 2
LOW: Final = 3
"""How urgent requests are, the most urgent first."""


NO_RETRY: Final = "x-no-retry"
"""The header by which a client says that its request is to be executed once at most."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """One row for a handler."""

    id: str
    headers: list[Header]
    """Shared by all requests whose heads are the same: not to be changed."""
    parts: list[RequestPart]
    explain: bool | None = None
    """Whether an explanation is asked for; None: the route does not say, so no handler sees it."""
    url_path: str | None = None
    """Path segments after the version, decoded, joined by `/`; None: the route has no such part."""
    describe: bool = False
    """The handler is asked to describe itself, not to predict."""

    @property
    def size_bytes(self) -> int:
        """How much memory the bodies take while the request waits."""
        parts = self.parts
        if len(parts) == 1:  # nearly always
            return len(parts[0][2])
        return sum(len(part[2]) for part in parts)


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What the handler answered to one request."""

    body: bytes
    status: int = 200
    phrase: str | None = None
    headers: list[Header] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to it but a body: nearly always."""
        return self.status == 200 and self.headers is None and self.phrase is None


Reply: TypeAlias = Answer | MarServeError
"""Exactly one of these reaches whoever asked."""

ReplyTo: TypeAlias = "Callable[[Job, Reply], None]"
OnPiece: TypeAlias = "Callable[[Job, Answer], None]"


class Timer(Protocol):
    """Something that will happen unless it is cancelled."""

    def cancel(self) -> None:
        """It shall not happen."""


def forbids_retry(headers: Iterable[Header]) -> bool:
    """Whether the client wants its request executed once at most (`x-no-retry: 1`)."""
    return any(name.lower() == NO_RETRY and value.strip() == "1" for name, value in headers)


class Job:
    """A request on its way. It is resolved once; a second resolution changes nothing.

    Owned by one batcher while it waits and by one worker while it runs. `abandon` is for a caller
    that went away: a job that waits is dropped before it reaches a worker, one that runs finishes
    and its answer is thrown away.

    A handler that streams gives pieces before the answer: each goes to `on_piece`, the last one is
    the answer. Whoever passes no `on_piece` gets them joined, as one answer. A front that makes
    very many jobs overrides `deliver` and `deliver_piece` instead of passing functions.
    """

    late_answers: ClassVar[int] = 0
    """Answers, of all jobs, that came when nobody waited for them any more."""

    # Made for every request: what hardly ever differs is an attribute of the class.
    attempts = 0
    dispatched_at = 0.0
    """When its worker got it; 0 until then."""
    is_open = True
    """Whether somebody still waits for the answer."""
    has_streamed = False
    """Whether a piece is out already: the request must not be tried again then."""
    deaths: tuple[int, ...] = ()
    """The ends of workers that had it."""
    deaths_alone = 0
    """How many of them had nothing else."""
    is_known_poison = False
    """Whether the same request was found to kill workers."""
    digest: bytes | None = None
    """What the batcher remembers its request by, once it had to look."""
    on_closed: Callable[[Job], None] | None = None
    """Called when nobody waits for the answer any more, while the job itself still waits: set
    and cleared by the queue that holds it."""
    deadline: float | None = None
    """By when its client must have the answer, by the clock of `queued_at`; None: no limit."""
    time_limit: Timer | None = None
    """What ends the wait of a client that may wait only so long; cancelled with its end, as it
    would keep the request until then."""
    priority: int = NORMAL
    """CRITICAL to LOW; who is more urgent leaves first."""
    _pieces: list[Answer] | None = None
    _reply_to: ReplyTo | None = None
    _on_piece: OnPiece | None = None

    def __init__(
        self,
        request: Request,
        queued_at: float,
        reply_to: ReplyTo | None = None,
        on_piece: OnPiece | None = None,
    ) -> None:
        self.request = request
        self.queued_at = queued_at
        if reply_to is not None:
            self._reply_to = reply_to
        if on_piece is not None:
            self._on_piece = on_piece

    @property
    def client(self) -> str:
        """Who asks, as far as shares of a full queue are concerned; asked only then."""
        return ""

    def resolve(self, reply: Reply) -> None:
        """Hand the answer to whoever asked, if nothing was handed to them before."""
        if not self.is_open:
            Job.late_answers += 1
            return
        self.is_open = False
        if self._pieces and isinstance(reply, Answer):
            reply = _joined([*self._pieces, reply])
        if self.on_closed is not None or self.time_limit is not None:
            self._close()
        self.deliver(reply)

    def stream(self, piece: Answer) -> None:
        """Hand on one piece of an answer whose end is still to come."""
        self.has_streamed = True
        if self.is_open and not self.deliver_piece(piece):
            if self._pieces is None:
                self._pieces = []
            self._pieces.append(piece)

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        self.is_open = False
        self._reply_to = self._on_piece = None
        self._close()

    def deliver(self, reply: Reply) -> None:
        """The one answer, on its way to whoever asked."""
        if self._reply_to is not None:
            self._reply_to(self, reply)

    def deliver_piece(self, piece: Answer) -> bool:
        """One piece of the answer; False: whoever asked wants it whole."""
        if self._on_piece is None:
            return False
        self._on_piece(self, piece)
        return True

    def _close(self) -> None:
        if self.time_limit is not None:
            self.time_limit.cancel()
            self.time_limit = None
        on_closed, self.on_closed = self.on_closed, None
        if on_closed is not None:
            on_closed(self)


def _joined(pieces: list[Answer]) -> Answer:
    """One answer of all pieces; status and headers are the first one's, as for a client."""
    first = pieces[0]
    body = b"".join(piece.body for piece in pieces)
    return Answer(body, first.status, first.phrase, first.headers)
