"""The sockets that the HTTP ports listen on: bound before anything else happens, or not at all."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from marserve.addresses import Address
from marserve.errors import PortInUse

_BACKLOG = 2048


@contextmanager
def listening(name: str, address: Address) -> Iterator[socket.socket]:
    """A bound, listening socket; the file of a unix socket goes with it.

    `name`: the port's, for messages.

    Raises:
        PortInUse: the address cannot be bound.
    """
    family = _family(address)
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        path = Path(address.path) if address.is_unix else None
        try:
            if path is None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address.host, address.port))
            else:
                _remove_stale(path)
                sock.bind(address.path)
            sock.listen(_BACKLOG)
        except OSError as error:
            raise PortInUse(
                f"{address.url} ({name}_address) cannot be opened: {error.strerror}. "
                f"Stop what listens there, or set another {name}_address."
            ) from error
        sock.setblocking(False)
        mine = path.stat().st_ino if path is not None else None
        try:
            yield sock
        finally:
            if path is not None:
                with suppress(OSError):  # another server may have taken the place
                    if path.stat().st_ino == mine:
                        path.unlink()


def url_of(address: Address, sock: socket.socket) -> str:
    """Where the socket really is: port 0 has become a number."""
    if address.is_unix:
        return address.url
    host, port = sock.getsockname()[:2]
    return Address(host, port, address.scheme).url


def _family(address: Address) -> socket.AddressFamily:
    if address.is_unix:
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on any more; anything else stays, and bind fails."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
