"""The beginning of a process that a launcher of torch has started, inside it.

Such a process inherits no channel, so it connects to the server's private socket, shows the
secret and says which rank it is; from there on it is a worker like any other (`child.py`). It
dies with its launcher.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import NoReturn

from marserve.workers import child
from marserve.workers.zygote import LAUNCHER_VARIABLE, die_with_parent

SOCKET_VARIABLE = "MARSERVE_RANKS"
SECRET_VARIABLE = "MARSERVE_RANKS_SECRET"  # noqa: S105  the name, not the secret
SECRET_BYTES = 32
HELLO = struct.Struct(f"<{SECRET_BYTES}sI")
"""The secret and the rank: what a rank says first."""


def main() -> NoReturn:
    """Join the server and serve one model."""
    die_with_parent(int(os.environ[LAUNCHER_VARIABLE]))
    path, secret = os.environ.pop(SOCKET_VARIABLE), os.environ.pop(SECRET_VARIABLE)
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    channel = socket.socket(socket.AF_UNIX)
    try:
        channel.connect(path)
        channel.sendall(HELLO.pack(bytes.fromhex(secret), rank))
    except OSError as error:
        sys.exit(f"marserve: rank {rank} cannot join its worker: {error}")
    child.main(channel, (os.dup(1), os.dup(2)))
