"""A process that has imported a framework once and forks workers from that warm state.

Started by the supervisor as a fresh interpreter, with the arguments that `main` reads. It never
starts threads, never initialises an accelerator and never runs user code before it has forked. It
alone signals and reaps its workers, so a process id can never be mistaken for another's, and it
reports how they ended. With a worker ends what it started, also what has left its group. When the
control socket ends, the zygote ends all workers, and then itself; should it be killed, the kernel
ends its workers, and the supervisor or the warden what they leave.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from marserve.workers import child, linux, marks, sandbox
from marserve.workers.messages import (
    MAX_DATAGRAM_BYTES,
    PACKAGE_MISSING,
    Confinement,
    Exited,
    FromZygote,
    Kill,
    Spawn,
    Spawned,
    SpawnFailed,
    ToZygote,
    ZygoteReady,
)

LAUNCHER_VARIABLE = "MARSERVE_LAUNCHER_PID"
"""Tells what a launcher starts who its parent is; what they start in turn inherits it."""
_OWN = {"torch": "marserve_handlers.torch", "torchvision": "marserve_handlers.vision"}
"""What handlers of a framework extend or are: shared like the framework itself."""
_LAST_REAP_S = 1.0


def main() -> NoReturn:
    """Run until the server goes away."""
    control_fd, server_pid, server = (int(argument) for argument in sys.argv[1:4])
    modules = sys.argv[4]
    is_marked = marks.put_on(server)
    die_with_parent(server_pid)  # an import may take long, and the control socket waits meanwhile
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the server's to handle
    control = socket.socket(fileno=control_fd)
    started = time.monotonic()
    problems = _import_all([name for name in modules.split(",") if name])
    gc.collect()
    gc.freeze()  # pages that the collector never touches stay shared between the workers
    _send(control, ZygoteReady(time.monotonic() - started, problems))
    linux.die_with_parent(0)  # from here on it must live to end its workers
    linux.adopt_orphans()  # and gets what dead workers leave
    zygote = _Zygote(control, server, is_marked)
    try:
        zygote.run()
    finally:
        zygote.kill_all()
        zygote.reap_all()
    sys.exit(0)


def die_with_parent(expected_parent: int) -> None:
    """Have the kernel kill this process when its parent is gone, even if that was just now."""
    linux.die_with_parent(signal.SIGKILL)
    if os.getppid() != expected_parent:
        os._exit(1)


class _Zygote:
    def __init__(self, control: socket.socket, server: int, is_marked: bool) -> None:
        self._control = control
        self._server = server
        self._is_marked = is_marked
        self._own = set(_children())
        """What the preloaded modules have started."""
        self._requests: msgspec.msgpack.Decoder[ToZygote] = msgspec.msgpack.Decoder(ToZygote)
        self._workers: set[int] = set()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        while True:
            control = self._control.fileno()
            ready, _, _ = select.select([control, self._wake_read], [], [])
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                self._reap()
            if control in ready and not self._serve_one():
                return

    def _serve_one(self) -> bool:
        try:
            data, ancillary, _, _ = self._control.recvmsg(
                MAX_DATAGRAM_BYTES, socket.CMSG_SPACE(3 * array.array("i").itemsize)
            )
        except ConnectionResetError:
            return False
        if not data:
            return False
        request = self._requests.decode(data)
        if isinstance(request, Kill):
            if request.is_abort:
                self._abort(request.pid)
            else:
                self._kill(request.pid)
            return True
        descriptors = _descriptors(ancillary)
        try:
            pid = self._fork(request, *descriptors)
        except OSError as error:  # too many processes, or too little memory for one more
            _send(self._control, SpawnFailed(request.worker, str(error)))
        else:
            self._workers.add(pid)
            _send(self._control, Spawned(request.worker, pid))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def kill_all(self) -> None:
        """End every worker and whatever it started."""
        for pid in self._workers:
            self._kill(pid)

    def reap_all(self) -> None:
        """Wait until all have ended, and end what they leave; not for ever."""
        self._own.clear()
        self._workers.clear()  # nobody is there to be told
        end = time.monotonic() + _LAST_REAP_S
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < end:
                self._sweep()
                if not self._reap_one():
                    time.sleep(0.01)

    def _fork(self, request: Spawn, channel_fd: int, stdout_fd: int, stderr_fd: int) -> int:
        zygote_pid = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        # --- runs in the worker, which must never return into the zygote's frames ---
        try:
            die_with_parent(zygote_pid)
            marks.put_on(self._server, os.getpid())
            os.setsid()  # a group of its own: whatever the handler starts can be ended with it
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            _shut_in(request.confinement, stderr_fd)
            if request.command:
                os.close(channel_fd)
                _become(request, stdout_fd, stderr_fd)
            child.main(socket.socket(fileno=channel_fd), (stdout_fd, stderr_fd))
        finally:
            os._exit(1)

    def _kill(self, pid: int) -> None:
        if pid not in self._workers:
            return
        for kill in (os.killpg, os.kill):  # a newborn worker has no group of its own yet
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)

    def _abort(self, pid: int) -> None:
        """Have its faulthandler print where it is, which needs no help of Python's, and end it."""
        if pid not in self._workers:
            return
        for number in (signal.SIGABRT, signal.SIGCONT):  # a stopped one must go on for that
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while self._reap_one():
                pass
        self._sweep()

    def _sweep(self) -> None:
        """End what ended workers have left: it came here, whatever group it is in.

        All that is born here is marked, so what has no mark has shed it, in order to stay.
        """
        for pid in _children():
            if pid in self._workers or pid in self._own:
                continue
            worker = _worker_of(pid)
            is_left = self._is_marked if worker is None else worker not in self._workers
            if is_left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)  # our child, not reaped: its number is its own

    def _reap_one(self) -> bool:
        """Whether somebody had ended: a worker, or what one has left behind."""
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(ended.si_pid, signal.SIGKILL)  # not reaped, so its group is still its own
        _, status = os.waitpid(ended.si_pid, 0)
        self._own.discard(ended.si_pid)
        if ended.si_pid in self._workers:
            self._workers.discard(ended.si_pid)
            _send(self._control, Exited(ended.si_pid, status))
        return True


def _shut_in(confinement: Confinement, stderr_fd: int) -> None:
    try:
        sandbox.confine(confinement)
    except (sandbox.LayerMissing, OSError) as error:
        os.write(stderr_fd, sandbox.last_words(error))
        os._exit(1)


def _become(request: Spawn, stdout_fd: int, stderr_fd: int) -> NoReturn:
    """Replace this process by the requested command, which still dies with the zygote."""
    os.dup2(stdout_fd, 1)
    os.dup2(stderr_fd, 2)
    os.close(stdout_fd)
    os.close(stderr_fd)
    path = request.environ.get("PYTHONPATH", "").split(os.pathsep)
    if request.needs and PathFinder.find_spec(request.needs, [*path, *sys.path]) is None:
        os._exit(PACKAGE_MISSING)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    environ = os.environ | request.environ | {LAUNCHER_VARIABLE: str(os.getpid())}
    try:
        os.execve(request.command[0], request.command, environ)  # noqa: S606  no shell on purpose
    except OSError as error:
        os.write(2, f"{request.command[0]} cannot be started: {error}\n".encode())
        os._exit(1)


def _children() -> list[int]:
    """The processes whose parent this one is, adopted ones included."""
    own = os.getpid()
    with contextlib.suppress(OSError):  # not every kernel has this file
        return [int(pid) for pid in Path(f"/proc/{own}/task/{own}/children").read_bytes().split()]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (folder / "stat").read_bytes()
            if int(stat.rpartition(b")")[2].split()[1]) == own:
                found.append(int(folder.name))
    return found


def _worker_of(pid: int) -> int | None:
    """The worker that a process comes from; None: it comes from none, or hides it."""
    mark = marks.mark_of(pid)
    if mark is not None and mark[1]:
        return mark[1]
    variable = LAUNCHER_VARIABLE.encode() + b"="
    with contextlib.suppress(OSError, ValueError):
        for entry in Path("/proc", str(pid), "environ").read_bytes().split(b"\0"):
            if entry.startswith(variable):
                return int(entry.removeprefix(variable))
    return None


def _import_all(names: list[str]) -> list[str]:
    problems: list[str] = []

    def attempt(name: str) -> Any:
        try:
            return importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  a broken framework is its model's problem
            problems.append(f"{name} could not be preloaded: {type(error).__name__}: {error}")

    for name in names:
        attempt(name)
    for framework, own in _OWN.items():
        if framework in sys.modules:
            attempt(own)
    if "marserve_handlers.torch" in sys.modules:
        try:
            attempt("marserve_handlers.weights").rehearse()
        except Exception as error:  # noqa: BLE001  workers only load more slowly without it
            problems.append(f"Loading weights could not be rehearsed: {error}")
    return problems


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int, int]:
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data)
    channel_fd, stdout_fd, stderr_fd = descriptors
    return channel_fd, stdout_fd, stderr_fd


def _send(control: socket.socket, message: FromZygote) -> None:
    try:
        control.send(msgspec.msgpack.encode(message))
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(0)


if __name__ == "__main__":
    main()
