"""Who listens on a port already, as far as /proc tells."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_LISTENING = "0A"


def said(error: OSError, family: socket.AddressFamily, where: int | str) -> str:
    """What the system says of a port that cannot be opened, and who holds it if it is taken."""
    by = holder(family, where) if error.errno == errno.EADDRINUSE else ""
    return f"{error.strerror}, by {by}" if by else str(error.strerror)


def holder(family: socket.AddressFamily, where: int | str) -> str:
    """The process that listens on a port, or on the path of a unix socket: "nginx (pid 7)".

    Empty when it cannot be found out: it belongs to somebody else, say.
    """
    if family == socket.AF_UNIX:
        inodes = set(_unix_inodes(str(where)))
    else:
        inodes = {inode for name in ("tcp", "tcp6") for inode in _tcp_inodes(name, int(where))}
    return next(_owners(inodes), "")


def _tcp_inodes(name: str, port: int) -> Iterator[str]:
    for line in _lines(_PROC / "net" / name):
        fields = line.split()
        if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
            yield fields[9]


def _unix_inodes(path: str) -> Iterator[str]:
    for line in _lines(_PROC / "net" / "unix"):
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7] == path:
            yield fields[6]


def _lines(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text().splitlines()[1:]
    return []


def _owners(inodes: Iterable[str]) -> Iterator[str]:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    if not wanted:
        return
    for process in _PROC.iterdir():
        if process.name.isdigit():
            with suppress(OSError):  # somebody else's, or gone
                if any(str(fd.readlink()) in wanted for fd in (process / "fd").iterdir()):
                    yield f"{(process / 'comm').read_text().strip()} (pid {process.name})"
