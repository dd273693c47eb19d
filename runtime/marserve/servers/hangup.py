"""Tells a client that has hung up from one that has merely said all it had to say.

Both look the same at first: the end of what they send. But what reaches a socket that its owner
has closed is answered with a reset, and after that the kernel reports this end as hung up, too.
"""

from __future__ import annotations

import select
import socket
import struct

CHECKS_S = (0.001, 0.01, 0.1, 0.5, 2.0)
"""When to look after something was sent: the reset takes a round trip."""


def has_hung_up(sock: socket.socket) -> bool:
    """Whether nobody is left at the other end of `sock`, as far as the kernel knows."""
    if sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    return any(flags & (select.POLLHUP | select.POLLERR) for _, flags in poll.poll(0))


def reset_on_close(sock: socket.socket) -> None:
    """Make the next close look like a failure to the other end, not like the end of the data."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
