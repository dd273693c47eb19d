"""Workers that a launcher of torch starts, on the server's side: from a launch to channels.

The launcher is a child of a zygote, like every worker, and dies with it; its ranks die with the
launcher. To the worker that owns it, all of this looks like one process.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.machinery import PathFinder
from pathlib import Path

from marserve.errors import LoadFailed
from marserve.refs import ModelRef
from marserve.workers.frames import Frame
from marserve.workers.meeting import Meeting
from marserve.workers.messages import PACKAGE_MISSING, Confinement
from marserve.workers.rank_channels import RankChannels
from marserve.workers.supervisor import (
    PACKAGE_ROOTS,
    Supervisor,
    WorkerProcess,
    describe_exit,
)
from marserve.workers.torchrun import CpuLaunch, Launch, Start

_BOOT = "import sys; sys.path += sys.argv[1:]; from marserve.workers.rank import main; main()"
_LAST_PORT = 65535


class Ports:
    """Free ports for ranks to meet at, from `first` upward. Owns which of them are in use here."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._ids = itertools.count(first)
        self._taken: set[int] = set()

    def new_id(self, ranks: int) -> str:
        """The name of the next worker: a port number, as TorchServe counts, `ranks` apart."""
        first, *_ = [next(self._ids) for _ in range(ranks)]
        return str(first)

    def take(self) -> int:
        """A port on which nobody listens.

        Raises:
            LoadFailed: there is none.
        """
        for port in range(self._first, _LAST_PORT + 1):
            if port not in self._taken and _is_free(port):
                self._taken.add(port)
                return port
        raise LoadFailed(
            f"No port from {self._first} upward is free for the processes of a parallel worker; "
            "set initial_distribution_port to another one."
        )

    def give_back(self, port: int) -> None:
        """Whoever met there has ended."""
        self._taken.discard(port)


class Launcher:
    """Starts the workers of one version."""

    def __init__(self, launch: Launch, ports: Ports, python_path: Sequence[str] = ()) -> None:
        self._launch = launch
        self._ports = ports
        self._python_path = tuple(python_path)
        self._indexes: set[int] = set()

    def share_among(self, workers: int) -> bool:
        """From now on so many workers share the machine. True: those that run have other shares."""
        if not isinstance(self._launch, CpuLaunch) or self._launch.workers == workers:
            return False
        self._launch = replace(self._launch, workers=workers)
        has_workers = bool(self._indexes)
        self._indexes = set()
        return has_workers

    async def start(
        self,
        supervisor: Supervisor,
        worker: str,
        ref: ModelRef,
        python: str,
        devices: tuple[int, ...],
        confinement: Confinement | None = None,
    ) -> LaunchedProcess:
        """Have a launcher process started; its ranks join when its channel is opened.

        Raises:
            LoadFailed: no process could be started.
        """
        launch = self._launch
        indexes, index = self._indexes, 0
        while index in indexes:
            index += 1
        start = Start(worker, index, self._ports.take() if launch.meets else 0, devices)
        indexes.add(index)

        def ended(_: object = None) -> None:
            self._ports.give_back(start.port)
            indexes.discard(index)

        try:
            meeting = Meeting(launch.ranks)
            try:
                process = await supervisor.spawn(
                    worker,
                    ref,
                    (),
                    python,
                    command=[
                        *(python, "-P", "-m", launch.module),
                        *launch.arguments(start, [python, "-u", "-P", "-c", _BOOT, *PACKAGE_ROOTS]),
                    ],
                    environ=self._environ(start, supervisor.environ) | meeting.environ,
                    needs=launch.module.partition(".")[0],
                    confinement=confinement,
                )
            except BaseException:
                meeting.close()
                raise
        except BaseException:
            ended()
            raise
        process.exited.add_done_callback(ended)
        return LaunchedProcess(process, meeting, launch)

    def _environ(self, start: Start, inherited: Mapping[str, str]) -> dict[str, str]:
        made = self._launch.environ(start, inherited)
        if self._python_path:  # the launcher itself may be among the packages of the model
            paths = (*self._python_path, inherited.get("PYTHONPATH", ""))
            made["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        return made


class LaunchedProcess:
    """A launcher and its ranks; has the face of `WorkerProcess`."""

    def __init__(self, launcher: WorkerProcess, meeting: Meeting, launch: Launch) -> None:
        self._launcher = launcher
        self._meeting = meeting
        self._launch = launch
        launcher.channel.close()
        self.pid = launcher.pid
        self.exited = launcher.exited

    @property
    def pids(self) -> list[int]:
        """The launcher and every rank that has joined."""
        return [self.pid, *self._meeting.pids]

    @property
    def last_words(self) -> str:
        """The end of what launcher and ranks have printed on stderr."""
        return self._launcher.last_words

    def kill(self) -> None:
        """End launcher and ranks at once. Harmless when they have ended already."""
        self._launcher.kill()

    def abort(self) -> None:
        """The same: a launcher would not say what its ranks are doing."""
        self._launcher.kill()

    async def open_channel(
        self,
        max_frame_bytes: int,
        on_frame: Callable[[Frame], None],
        on_lost: Callable[[str | None], None],
    ) -> RankChannels:
        """Wait for the ranks and connect to all of them.

        Raises:
            LoadFailed: the launcher ended before they were there.
        """
        try:
            sockets = await self._everyone()
        finally:
            self._meeting.close()
        channels = RankChannels(self._launch.is_in_step, on_frame, on_lost)
        await channels.connect(sockets, max_frame_bytes)
        return channels

    async def _everyone(self) -> list[socket.socket]:
        joining = asyncio.ensure_future(self._meeting.everyone())
        try:
            await asyncio.wait((joining, self.exited), return_when=asyncio.FIRST_COMPLETED)
            if joining.done():
                return joining.result()
        finally:
            joining.cancel()
        status = self.exited.result()
        if status != -1 and os.WIFEXITED(status) and os.WEXITSTATUS(status) == PACKAGE_MISSING:
            package = self._launch.module.partition(".")[0]
            raise LoadFailed(
                f"The model needs the package {package} ({self._launch.module} starts its "
                f"processes), which is not installed: pip install {package}."
            )
        raise LoadFailed(
            f"{self._launch.module}, which starts its processes, {describe_exit(status)} before "
            "they were there; the model log has what it printed."
        )


def is_installed(module: str, path: Sequence[str]) -> bool:
    """Whether there is such a module; its packages are not imported to find out."""
    package, *inside = module.split(".")
    spec = PathFinder.find_spec(package, list(path))
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    return any(Path(folder, *inside).with_suffix(".py").is_file() for folder in folders)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
        return True
