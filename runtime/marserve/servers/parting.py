"""How a port parts from its clients without a reset: what the kernel holds is looked at first.

The kernel resets every connection that waits to be accepted when its listening socket is closed,
and one that is closed with bytes unread. Both have been let in: their clients were told nothing
that would let them try elsewhere.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import socket
import struct
import termios
from contextlib import suppress
from pathlib import Path
from typing import Final

HANDSHAKE_S: Final = 0.1
"""How long a connection may take from its first packet until it waits to be accepted."""

_SO_ATTACH_FILTER: Final = 26
_FLAGS_AT, _SYN, _SYN_OR_ACK = 13, 0x02, 0x12
_PROGRAM: Final = (  # classic BPF: code, jump if true, jump if false, operand
    (0x30, 0, 0, _FLAGS_AT),  # load the byte of flags of the TCP header
    (0x54, 0, 0, _SYN_OR_ACK),
    (0x15, 0, 1, _SYN),  # a SYN alone asks for a new connection:
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # anything else may pass
)


def refuse_new(listening: socket.socket) -> None:
    """Let no new connection begin; those that have begun still come.

    Whoever asks meanwhile asks again by itself, and is refused once the socket is closed. Where the
    kernel has no filters nothing changes: between the last look and the close lie microseconds.
    """
    if listening.family == socket.AF_UNIX:
        with suppress(OSError):  # the folder is gone
            Path(listening.getsockname()).unlink()
        return
    steps = b"".join(struct.pack("HBBI", *step) for step in _PROGRAM)
    buffer = ctypes.create_string_buffer(steps)
    program = struct.pack("HP", len(_PROGRAM), ctypes.addressof(buffer))
    with suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def waiting(listening: socket.socket) -> list[socket.socket]:
    """Every connection that waits to be accepted now; `listening` does not block."""
    accepted: list[socket.socket] = []
    while True:
        try:
            one, _ = listening.accept()
        except ConnectionAbortedError:
            continue
        except OSError:  # there is none, or there are no descriptors for it
            return accepted
        one.setblocking(False)
        accepted.append(one)


def has_unread(sock: socket.socket) -> bool:
    """Whether the kernel holds bytes that the client has sent and nobody has read."""
    if sock.fileno() < 0:
        return False
    count = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.FIONREAD, count)
    except OSError:
        return False
    return count[0] > 0
