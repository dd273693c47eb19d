"""How a server process gets what it needs from the one before it: the successor's side.

One conversation over a unix socket in the log directory, for processes of one user. The running
server offers its listening sockets, and what it serves; when the successor serves all of that, it
says so, and the other one accepts no more. A successor that ends before has changed nothing.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from marserve.errors import Kind, MarServeError

SOCKET_NAME: Final = "marserve.sock"
MAX_MESSAGE_BYTES: Final = 1 << 17
_MOST_SOCKETS: Final = 16
_IS_STOPPING: Final = "The server was told to stop while its successor was loading."
ANSWER_S: Final = 5.0
"""How long a message may take that nothing has to be waited for."""


class SuccessionFailed(MarServeError):
    """The running server goes on; the message says why nobody took over."""

    kind = Kind.LOAD_FAILED


@dataclass(frozen=True, slots=True)
class Offer:
    """What the running server has."""

    ports: Sequence[str]
    """The names of the sockets, in the order of their descriptors."""
    serving: Sequence[str]
    """The versions that answer requests, as `name:version`."""
    is_kept: bool = False
    """A service manager keeps the sockets open, too."""
    keys: str = ""
    """The document of the key file."""


class Predecessor:
    """The running server, as its successor sees it."""

    def __init__(
        self, channel: socket.socket, pid: int, sockets: Sequence[socket.socket], offer: Offer
    ) -> None:
        self._channel = channel
        self.pid = pid
        self.offer = offer
        self.sockets = [*zip(offer.ports, sockets, strict=True)]
        """The name of each port and its listening socket."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """Which tells of what it says before it is asked."""
        self._is_stopping = False

    def watch(self, on_stopping: Callable[[], None]) -> None:
        """From now on, until `succeed`: call this when it says that it has been told to stop.

        That it ends without a word is no reason to stop. Called on the event loop.
        """
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._channel, self._overheard, on_stopping)

    def _overheard(self, on_stopping: Callable[[], None]) -> None:
        self._watch_no_more()
        with contextlib.suppress(OSError, SuccessionFailed):
            said = understood(self._channel.recv(MAX_MESSAGE_BYTES, socket.MSG_PEEK))
            if said.get("says") == "stopping":
                self._is_stopping = True
                on_stopping()

    def check(self) -> None:
        """Whether there still is something to take over.

        Raises:
            SuccessionFailed: it has been told to stop, and so is this process.
        """
        if self._is_stopping:
            raise SuccessionFailed(_IS_STOPPING)

    def _watch_no_more(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._channel)
            self._loop = None

    def succeed(self) -> None:
        """Tell it that everything serves here: it accepts no more from now on.

        Raises:
            SuccessionFailed: it has been told to stop, and so is this process.
        """
        self._watch_no_more()
        try:
            self._channel.settimeout(ANSWER_S)
            with contextlib.suppress(OSError):  # its last words may still be here
                send(self._channel, {"says": "ready", "pid": os.getpid()})
            answer = receive(self._channel)
        except (OSError, SuccessionFailed):
            return  # it has ended: there is nobody to step aside
        if answer.get("says") == "stopping":
            raise SuccessionFailed(_IS_STOPPING)


@contextlib.contextmanager
def predecessor(log_dir: Path, timeout_s: float) -> Iterator[Predecessor]:
    """Ask the server that runs with this log directory; it waits for us until the block ends.

    Args:
        log_dir: where its socket is.
        timeout_s: how long changes of models that are under way may take to finish.

    Raises:
        SuccessionFailed: there is none, or it does not hand over.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.settimeout(ANSWER_S + timeout_s)
        try:
            with folder(log_dir) as path:
                channel.connect(f"{path}/{SOCKET_NAME}")
            pid, uid = peer(channel)
            if uid not in (0, os.geteuid()):
                raise SuccessionFailed("The server belongs to another user.")
            send(channel, {"says": "hand over", "within_s": timeout_s})
            message, descriptors = _offered(channel)
        except OSError as error:
            raise SuccessionFailed(
                f"The server does not hand over ({(error.strerror or str(error)).lower()}): it has "
                f"no socket {SOCKET_NAME} in {log_dir}. Stop it and start it anew."
            ) from error
        sockets = [socket.socket(fileno=one) for one in descriptors]
        offer = Offer(
            message.get("ports", ()),
            message.get("serving", ()),
            bool(message.get("is_kept")),
            str(message.get("keys", "")),
        )
        try:
            if message.get("says") != "offer" or len(sockets) != len(offer.ports):
                raise SuccessionFailed(
                    str(message.get("why", "The server answers in another form."))
                )
            yield Predecessor(channel, pid, sockets, offer)
        finally:
            for sock in sockets:
                sock.close()


# --- messages -------------------------------------------------------------------------------------


@contextlib.contextmanager
def folder(path: Path) -> Iterator[str]:
    """A short name of a folder: addresses of unix sockets must be short."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def peer(channel: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, as the kernel knows them."""
    facts = array.array("i", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return facts[0], facts[1]


def send(
    channel: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int] = ()
) -> None:
    """One message, with descriptors beside it."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    channel.sendmsg([json.dumps(message).encode()], rights if descriptors else [])


def receive(channel: socket.socket) -> dict[str, Any]:
    """One message.

    Raises:
        SuccessionFailed: the other end has hung up, or says something else.
    """
    return understood(channel.recv(MAX_MESSAGE_BYTES))


def understood(data: bytes) -> dict[str, Any]:
    """The message that was received.

    Raises:
        SuccessionFailed: it is none.
    """
    try:
        message = json.loads(data)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise SuccessionFailed("The other server process has ended.")
    return message


def _offered(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    room = socket.CMSG_SPACE(_MOST_SOCKETS * array.array("i").itemsize)
    data, ancillary, _, _ = channel.recvmsg(MAX_MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            whole = len(content) - len(content) % descriptors.itemsize
            descriptors.frombytes(content[:whole])
    return understood(data), list(descriptors)
