"""Gives memory that a worker no longer needs back to the system: after loading, and when it rests.

The C library keeps what a batch has freed, for the next one. A worker without work for a second
returns it; until its next batch it then waits without a limit. The limit is the socket's own, so
a batch costs no call more than without it.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Any, Final

_REST_S: Final = 1
_ASKED_FOR_REST: Final = 3
"""So often in a row it is asked in about that time (`heartbeat.PERIOD_S`)."""
_LIBC: Final = ctypes.CDLL(None)


class IdleMemory:
    """Sees to the memory of the worker that reads from `channel`, a blocking socket.

    Once `work_done` was called, `recv` raises BlockingIOError when nothing came for a second; the
    reader then calls `rest` and reads on.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._rests = True
        self._asked = 0

    def work_done(self) -> None:
        """Model loaded, or batch answered."""
        self._asked = 0
        if self._rests:
            self._rests = False
            self._limit(_REST_S)

    def asked(self) -> None:
        """The server wanted to know whether the worker is there, which is no work."""
        self._asked += 1
        if not self._rests and self._asked >= _ASKED_FOR_REST:
            self.rest()

    def rest(self) -> None:
        """Return what is not needed, once."""
        self._rests = True
        self._limit(0)
        trim()

    def _limit(self, seconds: int) -> None:
        value = struct.pack("@ll", seconds, 0)  # a C timeval
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)


def trim() -> None:
    """Return the memory that was freed; takes a millisecond or two."""
    malloc_trim: Any = getattr(_LIBC, "malloc_trim", None)  # glibc has it
    if malloc_trim is not None:
        malloc_trim(0)
