"""Restart a server without refusing anybody: a new process takes over from the running one.

It is started with the same arguments, directory and environment as the one that runs, gets its
listening sockets, loads all models, and only then does the other one accept no more. If it fails,
the other one goes on as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from marserve.daemon import Started, StartFailed, Surroundings, launch
from marserve.run_file import RunFile
from marserve.succession import SuccessionFailed


@dataclass(frozen=True, slots=True)
class Restarted:
    """A server that has taken over."""

    former_pid: int
    started: Started


def restart(
    log_dir: Path, *, timeout_s: float, on_wait: Callable[[float], None]
) -> Restarted | None:
    """Have a new process take over from the server of this log directory; None when none runs.

    The one before still finishes what it has accepted when this returns.

    Raises:
        SuccessionFailed: it was started in a way that cannot be repeated.
        StartFailed: the new process did not become ready; the running server goes on.
    """
    server = RunFile(log_dir).living()
    process = None if server is None else server.process()
    if server is None or process is None:
        return None
    if not server.arguments or not server.addresses:
        raise SuccessionFailed(
            f"The server (pid {server.pid}) is still starting, or is of a version that cannot hand "
            "over: stop it and start it anew."
        )
    arguments = [*server.arguments, "--take-over", f"{timeout_s:g}"]
    try:
        where = Surroundings(Path(process.cwd()), process.environ())
    except psutil.Error as error:
        raise SuccessionFailed(
            f"The server (pid {server.pid}) belongs to another user: restart it as that user."
        ) from error
    try:
        started = launch(
            log_dir, arguments, timeout_s=timeout_s, on_wait=on_wait, surroundings=where
        )
    except StartFailed as error:
        raise type(error)(
            f"{error.message}\nThe server (pid {server.pid}) goes on as before."
        ) from error
    return Restarted(server.pid, started)
