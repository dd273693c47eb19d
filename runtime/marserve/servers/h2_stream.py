"""One stream of an HTTP/2 connection: both its directions, and what the connection tells it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

STREAM_WINDOW: Final = 256 * 1024
"""What a client may send on a stream before anything of it is read. Messages that are larger get
more room, as far as there is some for the connection (`h2_allowance`)."""


class H2Stream:
    """What serves a request derives from this, and overrides `opened`, `received` and `gone`.

    The fields belong to the connection, to its `Output` and to its `Allowance`. What hardly ever
    differs is an attribute of the class.
    """

    has_begun = False
    """Whether the head of the answer is out."""
    is_ended = False
    """Whether the client has sent everything."""
    is_over = False
    """Whether nothing goes either way any more."""
    waiting: deque[memoryview] | None = None
    """What the client does not take yet."""
    trailers: bytes | None = None
    """The header block after that, if the answer is complete."""
    waiter: asyncio.Future[None] | None = None
    """Whoever waits until nothing waits."""
    window_in = STREAM_WINDOW
    """What the client may still send."""
    granted_bytes = 0
    """What of it is over and above the usual."""
    read_bytes = 0
    """What is read, and was not given back to the window yet."""

    def __init__(self, connection: Any, stream_id: int, window: int) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.window = window
        """What the client takes at present."""

    def opened(self, is_last: bool) -> None:
        """The stream has begun. `is_last`: the client sends nothing more."""
        raise NotImplementedError

    def received(self, data: bytes, is_last: bool) -> None:
        """More of the body."""
        raise NotImplementedError

    def gone(self) -> None:
        """The client does not want the answer any more, or cannot get it."""
        raise NotImplementedError

    def refuse(self) -> None:
        """The server ends before the answer is there: say so."""
        raise NotImplementedError
