"""The server as a process: run it here, start it in the background, stop it.

`marserve start` launches `marserve serve` detached and waits for one line of JSON on a pipe: ready
with addresses and problems, or failed with the reason. This module says nothing to people; the
command line does.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import psutil

from marserve.config import Config
from marserve.errors import ConfigInvalid, Kind, MarServeError
from marserve.pid_file import PidFile
from marserve.run_file import AlreadyRunning, Claim, RunFile, ServerProcess, make_log_dir
from marserve.succession import Predecessor, predecessor
from marserve.workers import first_process

_TAIL_LINES = 15
_TAIL_BYTES = 8192
_STEP_S = 0.1
_LAST_WORDS_S = 5.0
"""How long a server that closed the pipe may take to end."""


class Ready(Protocol):
    """What the server tells when all ports are open."""

    @property
    def addresses(self) -> Mapping[str, str]:
        """inference, management, metrics → URL."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator should know, one sentence each."""
        ...

    @property
    def problems(self) -> tuple[str, ...]:
        """Models that could not be loaded, one sentence each."""
        ...


class Serve(Protocol):
    """The composition root: blocks until the server is told to stop, returns its exit code."""

    def __call__(
        self,
        config: Config,
        *,
        on_ready: Callable[[Ready], None],
        console: bool,
        predecessor: Predecessor | None = None,
    ) -> int:
        """Serve; `on_ready` is called once, when all ports are open.

        `console`: somebody reads stdout, so log lines go there too. `predecessor`: the server to
        take over from.
        """
        ...


class StartFailed(MarServeError):
    """The server in the background did not become ready; the message has its reason."""

    kind = Kind.LOAD_FAILED


class NotReadyYet(StartFailed):
    """The time is over, and the server in the background goes on starting."""


class StopFailed(MarServeError):
    """The server still runs, or may not be signalled."""

    kind = Kind.DEADLINE_EXCEEDED


class StillRuns(StopFailed):
    """The server has been told to end, and has not ended in time."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a server in the background runs; None: where the command does."""

    cwd: Path | None = None
    environ: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """A server in the background that is ready."""

    pid: int
    addresses: Mapping[str, str]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


# --- runs in the serving process ---


def serve_here(
    config: Config,
    serve: Serve,
    *,
    ready_fd: int | None,
    on_ready: Callable[[Ready], None],
    console: bool,
    pid_file: PidFile | None = None,
    arguments: Sequence[str] = (),
    takes_over_s: float | None = None,
) -> int:
    """Run the server in this process until it is told to stop.

    Args:
        config: of the server.
        serve: runs it.
        ready_fd: gets the line that `start` waits for.
        on_ready: called when it is ready.
        console: somebody reads stdout.
        pid_file: claimed beside the run file.
        arguments: what was said to start it, for a later restart.
        takes_over_s: take over from the server that runs, which may take so long to finish changes
            of models; None: there must be none.

    Raises:
        MarServeError: it cannot start; whoever waits on `ready_fd` has been told.
    """
    first_process.step_aside()
    report = _Report(ready_fd)
    try:
        with contextlib.ExitStack() as stack:
            former, more = None, {}
            if takes_over_s is not None:
                former = stack.enter_context(predecessor(config.log_dir, takes_over_s))
                more = {"predecessor": former}

            def claim() -> Claim:
                succeeds = None if former is None else former.pid
                if pid_file is not None:
                    stack.enter_context(pid_file.claimed(succeeds))
                return stack.enter_context(RunFile(config.log_dir).claimed(arguments, succeeds))

            # the run file speaks of the one before until this one serves
            claimed = claim() if former is None else None

            def ready(state: Ready) -> None:
                (claimed or claim()).complete(state.addresses)
                report.send(
                    addresses=dict(state.addresses),
                    problems=list(state.problems),
                    notes=list(state.notes),
                )
                on_ready(state)

            return serve(config, on_ready=ready, console=console, **more)
    except MarServeError as error:
        report.send(failed=error.message)
        raise


class _Report:
    """The one line that `start` waits for. Without a pipe it goes nowhere."""

    def __init__(self, ready_fd: int | None) -> None:
        self._fd = ready_fd
        if ready_fd is not None:
            os.set_inheritable(ready_fd, False)  # workers must not keep the pipe open

    def send(self, **document: object) -> None:
        """Write the line and close the pipe; the second time nothing happens."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        with contextlib.suppress(OSError), os.fdopen(fd, "w") as pipe:  # nobody may wait any more
            pipe.write(json.dumps(document) + "\n")


# --- runs in the command that starts it ---


def start(
    log_dir: Path,
    arguments: Sequence[str],
    *,
    timeout_s: float,
    on_wait: Callable[[float], None],
    keeps_output: bool = False,
) -> Started:
    """Start `marserve` with `arguments` in the background and wait until it is ready.

    `on_wait` gets the seconds waited, several times per second. Whatever interrupts the wait
    leaves the server as it is. `keeps_output`: the server writes to the caller's stdout and
    stderr; else they go to marserve.log.

    Raises:
        AlreadyRunning: a server lives with this log directory.
        ConfigInvalid: the log directory cannot be written.
        NotReadyYet: the server is not ready in time.
        StartFailed: the server says why it cannot start, or has ended.
    """
    make_log_dir(log_dir)
    other = RunFile(log_dir).living()
    if other is not None:
        raise AlreadyRunning(other, log_dir)
    return launch(
        log_dir, arguments, timeout_s=timeout_s, on_wait=on_wait, keeps_output=keeps_output
    )


def launch(
    log_dir: Path,
    arguments: Sequence[str],
    *,
    timeout_s: float,
    on_wait: Callable[[float], None],
    keeps_output: bool = False,
    surroundings: Surroundings | None = None,
) -> Started:
    """As `start`, whether another server runs or not."""
    log_file = log_dir / "marserve.log"
    log_begin = log_file.stat().st_size if log_file.exists() else 0
    reader, writer = os.pipe()
    try:
        try:
            child = _launched(arguments, writer, None if keeps_output else log_file, surroundings)
        finally:
            os.close(writer)
        report = _report_of(child, reader, timeout_s, on_wait)
    finally:
        os.close(reader)
    if report is None:
        raise StartFailed(_last_words(child, log_file, log_begin))
    if "failed" in report:
        child.wait(_LAST_WORDS_S)
        raise StartFailed(report["failed"])
    notes = tuple(report.get("notes", ()))
    return Started(child.pid, report["addresses"], tuple(report["problems"]), notes)


def _launched(
    arguments: Sequence[str],
    writer: int,
    log_file: Path | None,
    surroundings: Surroundings | None,
) -> subprocess.Popen[bytes]:
    # -P: a file in the current directory must not be taken for a module of the server
    command = [sys.executable, "-P", "-m", "marserve", *arguments]
    if log_file is None:
        return _spawned(command, writer, None, surroundings)
    try:
        log = log_file.open("ab")
    except OSError as error:
        raise ConfigInvalid(
            f"The log file {log_file} cannot be written ({(error.strerror or '').lower()})."
        ) from error
    with log:
        return _spawned(command, writer, log, surroundings)


def _spawned(
    command: Sequence[str],
    writer: int,
    output: BinaryIO | None,
    surroundings: Surroundings | None,
) -> subprocess.Popen[bytes]:
    where = surroundings or Surroundings()
    return subprocess.Popen(
        [*command, "--ready-fd", str(writer)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=[writer],
        start_new_session=True,
        cwd=where.cwd,
        env=where.environ,
    )


def _report_of(
    child: subprocess.Popen[bytes],
    reader: int,
    timeout_s: float,
    on_wait: Callable[[float], None],
) -> dict[str, Any] | None:
    """The line on the pipe, or None when the child ends without one."""
    began = time.monotonic()
    received = b""
    while b"\n" not in received:
        waited_s = time.monotonic() - began
        if select.select([reader], [], [], _STEP_S)[0]:
            chunk = os.read(reader, 65536)
            if not chunk:
                return None
            received += chunk
        elif child.poll() is not None:  # a worker that outlives it may hold the pipe open
            return None
        elif waited_s > timeout_s:
            raise NotReadyYet(
                f"The server (pid {child.pid}) is not ready after {timeout_s:g} s. It goes on "
                "starting in the background: see `marserve status`, end it with `marserve stop`."
            )
        else:
            on_wait(waited_s)
    report: dict[str, Any] = json.loads(received)
    return report


def _last_words(child: subprocess.Popen[bytes], log_file: Path, log_begin: int) -> str:
    try:
        code = child.wait(_LAST_WORDS_S)
        ending = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    except subprocess.TimeoutExpired:
        ending = "closed its report without a word"
    lines = _tail(log_file, log_begin)
    if not lines:
        return f"The server {ending} and left nothing in {log_file}."
    shown = "".join(f"\n  {line}" for line in lines)
    return f"The server {ending}. The last lines of {log_file}:{shown}"


def _tail(log_file: Path, begin: int) -> list[str]:
    """The last lines of this run: nothing from before `begin`."""
    with log_file.open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(begin, size - _TAIL_BYTES))
        return log.read().decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]


# --- runs in the command that stops it ---


def stop(
    log_dir: Path, *, timeout_s: float, on_wait: Callable[[float], None]
) -> ServerProcess | None:
    """End the server of this log directory and wait for its end; None when none runs.

    Raises:
        StopFailed: it may not be signalled, or has not ended in time.
    """
    run_file = RunFile(log_dir)
    server = run_file.read()
    if server is None:
        return None
    process = server.process()
    if process is None:
        run_file.remove(server)
        return None
    end(process, timeout_s=timeout_s, on_wait=on_wait)
    run_file.remove(server)
    return server


def end(
    process: psutil.Process,
    *,
    timeout_s: float,
    on_wait: Callable[[float], None] = lambda _: None,
) -> None:
    """Tell a server to end, and wait until it has.

    Raises:
        StillRuns: it has not ended in time.
        StopFailed: it may not be signalled.
    """
    _terminate(process)
    began = time.monotonic()
    while _lives(process):
        waited_s = time.monotonic() - began
        if waited_s > timeout_s:
            raise StillRuns(
                f"The server (pid {process.pid}) still runs after {timeout_s:g} s. It may be "
                "finishing requests: wait, or end it with `kill -9 "
                f"{process.pid}`, which loses them."
            )
        on_wait(waited_s)
        time.sleep(_STEP_S / 2)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _terminate(process: psutil.Process) -> None:
    try:
        process.terminate()
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied:
        raise StopFailed(
            f"The server (pid {process.pid}) belongs to {_owner(process)}: stop it as that user."
        ) from None


def _owner(process: psutil.Process) -> str:
    try:
        return process.username()
    except psutil.Error:
        return "another user"
