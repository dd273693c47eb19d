"""Listening sockets that another process opened: a server before this one, or systemd.

A port that finds its own among them does not bind. Nothing is let go of in between, so no client is
refused while one process follows another.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from marserve.addresses import Address


class Inherited:
    """Sockets, and the names of the ports that had them, as far as those are known."""

    def __init__(
        self, sockets: Sequence[tuple[str, socket.socket]] = (), *, is_kept: bool = False
    ) -> None:
        """`is_kept`: whoever gave them keeps them open as well (systemd does)."""
        self._sockets = list(sockets)
        self.is_kept = is_kept

    def take(self, name: str, address: Address) -> socket.socket | None:
        """The one for this port; it is the caller's from now on."""
        for one in self._sockets:
            former, sock = one
            if former in ("", name) and _is_at(sock, address, may_be_anywhere=former == name):
                self._sockets.remove(one)
                sock.setblocking(False)
                return sock
        return None

    def close(self) -> list[str]:
        """Close those that no port has taken; where they listened."""
        left = [str(sock.getsockname()) for _, sock in self._sockets]
        for _, sock in self._sockets:
            sock.close()
        self._sockets.clear()
        return left


def _is_at(sock: socket.socket, address: Address, may_be_anywhere: bool) -> bool:
    """Whether it listens there; `may_be_anywhere`: a free port that was drawn is as good."""
    if sock.family == socket.AF_UNIX:
        return address.is_unix and sock.getsockname() == address.path
    if address.is_unix or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    host, port = sock.getsockname()[:2]
    return bool(host == address.host and port == (address.port or (may_be_anywhere and port)))
