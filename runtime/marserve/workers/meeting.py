"""Where the ranks of a worker find the server: a private socket that lives for seconds.

Its folder is open to this user alone, a rank must know a secret that no other worker has, and both
are gone as soon as every rank is there.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import shutil
import socket
import struct
import tempfile
from pathlib import Path

from marserve.errors import LoadFailed
from marserve.workers.rank import HELLO, SECRET_BYTES, SECRET_VARIABLE, SOCKET_VARIABLE

_PATIENCE_S = 5.0
_LONGEST_PATH_BYTES = 107
_PEER = struct.Struct("iII")


class Meeting:
    """Waits for `ranks` connections. Must be closed."""

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._folder = Path(tempfile.mkdtemp(prefix="marserve-"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._came: dict[int, socket.socket] = {}
        self.pids: list[int] = []
        """Of those that have come."""
        path = str(self._folder / "ranks")
        try:
            if len(path.encode()) > _LONGEST_PATH_BYTES:
                raise LoadFailed(
                    f"The path of the socket {path} is too long; set TMPDIR to a shorter one."
                )
            self._listener.bind(path)
            self._listener.listen(ranks)
            self._listener.setblocking(False)
        except BaseException:
            self.close()
            raise
        self.environ = {SOCKET_VARIABLE: path, SECRET_VARIABLE: self._secret.hex()}
        """What the ranks have to know."""

    async def everyone(self) -> list[socket.socket]:
        """The connections of all ranks, in order; they are the caller's then."""
        loop = asyncio.get_running_loop()
        while len(self._came) < self._ranks:
            connection, _ = await loop.sock_accept(self._listener)
            connection.setblocking(False)
            try:
                rank = await asyncio.wait_for(self._greet(connection), _PATIENCE_S)
            except BaseException as error:
                connection.close()
                if isinstance(error, (TimeoutError, OSError)):
                    continue
                raise
            if rank is None or rank in self._came:
                connection.close()
            else:
                self._came[rank] = connection
                self.pids.append(_peer_pid(connection))
        came, self._came = self._came, {}
        return [came[rank] for rank in range(self._ranks)]

    def close(self) -> None:
        """Leave nothing behind; hang up on ranks that nobody took over."""
        self._listener.close()
        for connection in self._came.values():
            connection.close()
        self._came.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _greet(self, connection: socket.socket) -> int | None:
        """Which rank it is; None: it is not one of ours."""
        loop = asyncio.get_running_loop()
        said = b""
        while len(said) < HELLO.size:
            data = await loop.sock_recv(connection, HELLO.size - len(said))
            if not data:
                return None
            said += data
        secret, rank = HELLO.unpack(said)
        is_ours = hmac.compare_digest(secret, self._secret) and rank < self._ranks
        return rank if is_ours else None


def _peer_pid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    pid: int = _PEER.unpack(credentials)[0]
    return pid
