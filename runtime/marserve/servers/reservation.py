"""A port that is taken before what listens there is ready, or even imported.

The socket is bound and does not listen: nobody else gets the port, clients are refused until
whoever serves it listens on it.
"""

from __future__ import annotations

import socket

from marserve.errors import PortInUse
from marserve.servers.holder import said


def reserved(name: str, host: str, port: int) -> socket.socket:
    """A socket bound to the port; 0 takes a free one. `name`: how the settings begin.

    Raises:
        PortInUse: the address is taken, or is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise in_use(name, host, port, said(error, family, port)) from error
    return sock


def in_use(name: str, host: str, port: int, cause: str) -> PortInUse:
    """The error for a port that cannot be opened."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return PortInUse(
        f"{where} ({name}_address, {name}_port) cannot be opened: {cause}. "
        f"Stop what listens there, or set another {name}_port."
    )
