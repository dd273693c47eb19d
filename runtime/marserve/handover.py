"""Hands the listening sockets of this server to its successor, and has it step aside for it.

The running server's side of `succession.py`, on the event loop. While a successor loads, no change
of models is taken, so that what it has read stays true; if it fails, everything is as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from marserve.change_gate import ChangeGate
from marserve.succession import (
    ANSWER_S,
    MAX_MESSAGE_BYTES,
    SOCKET_NAME,
    Offer,
    SuccessionFailed,
    folder,
    peer,
    send,
    understood,
)

_log = logging.getLogger("marserve.server")
_LONGEST_WAIT_S = 600.0
_WHY_SHUT = "The server is being restarted and takes no changes of models. Try again in a moment."


class Handover:
    """Waits for a successor. All methods run on the event loop."""

    def __init__(
        self,
        log_dir: Path,
        gate: ChangeGate,
        sockets: Callable[[], Mapping[str, socket.socket]],
        offer: Callable[[], Offer],
        on_begun: Callable[[bool], None],
        on_done: Callable[[int], None],
    ) -> None:
        """What it works with.

        Args:
            log_dir: gets the socket.
            gate: is shut while a successor loads.
            sockets: those that listen, by name.
            offer: what is to be said about the rest.
            on_begun: called with True when a successor begins, before `offer` is, and with False
                when it has failed.
            on_done: called with the process id of a successor that serves everything.
        """
        self._log_dir = log_dir
        self._gate = gate
        self._sockets = sockets
        self._offer = offer
        self._on_begun = on_begun
        self._on_done = on_done
        self._loop = asyncio.get_running_loop()
        self._listening: socket.socket | None = None
        self._inode: int | None = None
        self._channel: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Let a successor ask from now on. Without a socket there is no restart, and no harm."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            path = self._log_dir / SOCKET_NAME
            path.unlink(missing_ok=True)  # of a server that has ended, or has stepped aside
            with folder(self._log_dir) as short:
                sock.bind(f"{short}/{SOCKET_NAME}")
            path.chmod(0o600)  # who connects before that is asked for credentials, too
            self._inode = path.stat().st_ino
            sock.listen(4)
        except OSError as error:
            _log.warning("This server cannot hand over to another one: %s.", error.strerror)
            sock.close()
            return
        sock.setblocking(False)
        self._listening = sock
        self._loop.add_reader(sock, self._asked)

    def close(self) -> None:
        """Let nobody ask any more; a successor that is still loading is told to end."""
        if self._listening is not None:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None
            path = self._log_dir / SOCKET_NAME
            with contextlib.suppress(OSError):  # a successor may have put its own there
                if path.stat().st_ino == self._inode:
                    path.unlink()
        if self._channel is not None:
            with contextlib.suppress(OSError):
                send(self._channel, {"says": "stopping"})
        for task in self._tasks:
            task.cancel()

    def _asked(self) -> None:
        assert self._listening is not None
        try:
            channel, _ = self._listening.accept()
        except OSError:
            return
        channel.setblocking(False)
        task = self._loop.create_task(self._converse(channel))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, channel: socket.socket) -> None:
        with channel:
            pid, uid = peer(channel)
            if uid not in (0, os.geteuid()):
                _log.warning("Process %d of another user asked for the sockets of this one.", pid)
                return
            try:
                await self._hand_over(channel, pid)
            except (OSError, SuccessionFailed, TimeoutError) as error:
                _log.warning("Process %d did not take over: %s", pid, error)

    async def _hand_over(self, channel: socket.socket, pid: int) -> None:
        async with asyncio.timeout(ANSWER_S):
            ask = await self._received(channel)
        if self._channel is not None:
            send(channel, {"says": "no", "why": "Another process is taking over already."})
            return
        within_s = ask.get("within_s", 0.0)
        if not isinstance(within_s, int | float):
            raise SuccessionFailed("It says something else.")
        within_s = min(_LONGEST_WAIT_S, max(0.0, within_s))
        self._channel = channel
        try:
            if not await self._gate.shut(_WHY_SHUT, within_s):
                why = f"Changes of models are still under way after {within_s:g} s."
                send(channel, {"says": "no", "why": why})
                raise SuccessionFailed(why)
            await self._wait_for(channel, pid)
        except BaseException:
            self._gate.reopen()
            raise
        finally:
            self._channel = None

    async def _wait_for(self, channel: socket.socket, pid: int) -> None:
        """Offer what is there, and wait until it serves at the other end."""
        _log.info("process %d takes over: it loads the models, and this one goes on meanwhile", pid)
        self._on_begun(True)
        try:
            sockets = self._sockets()
            offer = self._offer()  # from now on nothing of it changes
            message = {
                "says": "offer",
                "ports": [*sockets],
                "serving": [*offer.serving],
                "is_kept": offer.is_kept,
                "keys": offer.keys,
            }
            send(channel, message, [sock.fileno() for sock in sockets.values()])
            if (await self._received(channel)).get("says") != "ready":
                raise SuccessionFailed("It says something else.")
        except BaseException:
            self._on_begun(False)
            raise
        self._on_done(pid)
        with contextlib.suppress(OSError):
            send(channel, {"says": "yours"})

    async def _received(self, channel: socket.socket) -> dict[str, Any]:
        return understood(await self._loop.sock_recv(channel, MAX_MESSAGE_BYTES))
