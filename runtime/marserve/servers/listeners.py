"""The sockets that the HTTP ports listen on: bound before anything else happens, or not at all."""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from marserve.addresses import Address
from marserve.errors import PortInUse
from marserve.servers.holder import said

_BACKLOG = 2048


@contextmanager
def listening(
    name: str,
    address: Address,
    inherited: socket.socket | None = None,
    is_shared: Callable[[], bool] = lambda: False,
) -> Iterator[socket.socket]:
    """A bound, listening socket; the file of a unix socket goes with it.

    Args:
        name: the port's, for messages.
        address: where it listens.
        inherited: one that listens there already.
        is_shared: whether another process goes on with it, and with its file.

    Raises:
        PortInUse: the address cannot be bound.
    """
    path = Path(address.path) if address.is_unix else None
    with inherited or _bound(name, address, path) as sock:
        sock.setblocking(False)
        mine = path.stat().st_ino if path is not None and path.exists() else None
        try:
            yield sock
        finally:
            if path is not None and not is_shared():
                with suppress(OSError):  # another server may have taken the place
                    if path.stat().st_ino == mine:
                        path.unlink()


def _bound(name: str, address: Address, path: Path | None) -> socket.socket:
    sock = socket.socket(_family(address), socket.SOCK_STREAM)
    try:
        if path is None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address.host, address.port))
        else:
            _remove_stale(path)
            sock.bind(address.path)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        cause = said(error, _family(address), address.port if path is None else address.path)
        raise PortInUse(
            f"{address.url} ({name}_address) cannot be opened: {cause}. "
            f"Stop what listens there, or set another {name}_address."
        ) from error
    return sock


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
