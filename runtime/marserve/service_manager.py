"""What systemd gives a service and wants to hear from it: sockets, and words about its state.

The protocols of sd_listen_fds(3) and sd_notify(3), as far as a server needs them. The variables are
taken out of the environment, so that no worker inherits them.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

_log = logging.getLogger("marserve.server")
_FIRST_DESCRIPTOR: Final = 3
_MOST_SOCKETS: Final = 64


class ServiceManager:
    """Whoever started the process, if it wants to know; else every method does nothing."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Takes what belongs to it out of `environ`."""
        self._address = environ.pop("NOTIFY_SOCKET", "")
        self._listen_pid = environ.pop("LISTEN_PID", "")
        self._listen_fds = environ.pop("LISTEN_FDS", "")
        environ.pop("LISTEN_FDNAMES", None)

    def sockets(self) -> list[socket.socket]:
        """The listening sockets that it opened for this process; call once."""
        if self._listen_pid != str(os.getpid()) or not self._listen_fds.isdigit():
            return []
        count = min(int(self._listen_fds), _MOST_SOCKETS)
        found: list[socket.socket] = []
        for descriptor in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + count):
            try:
                os.set_inheritable(descriptor, False)
                found.append(socket.socket(fileno=descriptor))
            except OSError as error:
                _log.warning("The descriptor %d is no socket: %s.", descriptor, error.strerror)
        return found

    def ready(self, status: str = "") -> None:
        """The service serves."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A successor is loading."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def succeeded_by(self, pid: int) -> None:
        """Another process is the service from now on."""
        self._tell(f"MAINPID={pid}", "READY=1")

    def stopping(self) -> None:
        """The service is about to end."""
        self._tell("STOPPING=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.connect(address)
                sock.send("\n".join(lines).encode())
        except OSError as error:
            _log.warning("The service manager cannot be told: %s.", error.strerror)
