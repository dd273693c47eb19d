"""The supervisor's side of the warden: starts it, replaces it, lets it clear up at the end.

Owns the folder of the server and its mark. All methods run on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from marserve.workers import marks
from marserve.workers.run_folder import RunFolder, clear_up_after_the_dead

_log = logging.getLogger("marserve.workers")
_PATIENCE_S = 7.0
_PAUSE_S = 0.2
"""Before a warden that has ended is replaced, so that one that cannot run costs little."""
_BOOT = "import sys; sys.path += sys.argv[4:]; from marserve.workers.warden import main; main()"


class Guard:
    """Watches over what one server starts.

    Args:
        packages: the folders that our packages are imported from.
    """

    def __init__(self, packages: Collection[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._packages = list(packages)
        self._folder = RunFolder()
        self._is_closed = False
        self._start_warden()
        self._clearing = self._loop.run_in_executor(None, clear_up_after_the_dead)
        self._clearing.add_done_callback(_tell)

    @property
    def server(self) -> int:
        """The number that all processes of this server are marked with."""
        return self._folder.mark

    @property
    def environ(self) -> Mapping[str, str]:
        """What marks a process that is not forked by a zygote."""
        return marks.environ(self.server)

    @property
    def warden_pid(self) -> int:
        """The process that clears up should this one be killed."""
        return self._warden.pid

    def scratch(self, worker: str) -> Path:
        """A new folder for one life of a worker."""
        return self._folder.scratch(worker)

    def end_all_of(self, workers: Collection[int]) -> None:
        """End what these workers, known by their pids, have left; soon, in a thread."""
        of = frozenset(workers)
        self._loop.run_in_executor(
            None, marks.kill, lambda mark: mark[0] == self.server and mark[1] in of
        )

    async def close(self) -> None:
        """Let the warden end what is left and remove the folder; returns when it has."""
        self._is_closed = True
        self._loop.remove_reader(self._channel)
        self._folder.close()
        self._channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._warden.wait, _PATIENCE_S)

    def _start_warden(self) -> None:
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        number = str(theirs.fileno())
        boot = [sys.executable, "-I", "-S", "-c", _BOOT, number, str(self.server)]
        with theirs:
            self._warden = subprocess.Popen(
                [*boot, str(self._folder.path), *self._packages],
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._loop.add_reader(self._channel, self._warden_ended)

    def _warden_ended(self) -> None:
        self._loop.remove_reader(self._channel)
        self._channel.close()
        if not self._is_closed:
            self._loop.call_later(_PAUSE_S, self._replace_warden)

    def _replace_warden(self) -> None:
        if self._is_closed:
            return
        code = self._warden.wait()  # it has hung up, so it has ended
        _log.warning("the warden has ended (%s) and is replaced", code)
        self._start_warden()


def _tell(clearing: asyncio.Future[list[Path]]) -> None:
    if not clearing.cancelled() and clearing.exception() is None and clearing.result():
        _log.warning("cleared up after %d servers that were killed", len(clearing.result()))
