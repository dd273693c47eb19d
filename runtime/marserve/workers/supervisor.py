"""The module that starts processes: zygotes, workers through them, and (`guard.py`) the warden.

One zygote per set of preloaded modules, started when the first worker needs it. The zygote forks,
signals and reaps (`zygote.py`); what it reports arrives here on the event loop. All methods run
on the loop's thread, which must be the main thread: the kernel ends a zygote that is still
importing together with the thread that started it.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

import marserve
import marserve_archiver
import marserve_handlers
from marserve.errors import LoadFailed
from marserve.refs import ModelRef
from marserve.workers import warden
from marserve.workers.channel import Channel
from marserve.workers.frames import Frame
from marserve.workers.guard import Guard
from marserve.workers.messages import (
    MAX_DATAGRAM_BYTES,
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
from marserve.workers.output_allowance import OutputAllowance

_log = logging.getLogger("marserve.workers")
_model_log = logging.getLogger("marserve.model")
_STREAMS = {"stdout": logging.INFO, "stderr": logging.WARNING}
"""In the order of descriptors; the level of what comes over each."""
_MAX_LINE_BYTES = 8192
_TAIL_BYTES = 4096
"""So much of what a worker printed last is kept, to be shown should it fail."""
_RETRY_S = 0.05
_DEAF_S = 2.0
"""How long a zygote may leave a message unread until it is woken up, and …"""
_DEAF_FOR_GOOD_S = 10.0
"""… how long after that until it is ended."""
_LAST_WORDS_S = 1.0
"""What a worker that hangs has to say what it is doing."""

_BOOT = "import sys; sys.path += sys.argv[5:]; from marserve.workers.zygote import main; main()"
"""Our packages go to the end of the path, where they hide nothing, and the working directory does
not get on it at all (`-P`)."""
PACKAGE_ROOTS = sorted(
    {
        str(Path(package.__path__[0]).parent)
        for package in (marserve, marserve_archiver, marserve_handlers)
    }
)


class WorkerProcess:
    """One forked worker. `exited` resolves with what `os.waitpid` said; -1 when nobody knows."""

    def __init__(
        self,
        id_: str,
        pid: int,
        channel: socket.socket,
        exited: asyncio.Future[int],
        zygote: Zygote,
    ) -> None:
        self.id = id_
        self.pid = pid
        self.channel = channel
        self.exited = exited
        self.errors: _OutputLines | None = None
        """What it prints on its stderr."""
        self._zygote = zygote

    @property
    def last_words(self) -> str:
        """The end of what it has printed on its stderr."""
        return "" if self.errors is None else self.errors.tail.decode("utf-8", "replace")

    def kill(self) -> None:
        """End it at once, and whatever it started. Harmless when it has ended already."""
        if not self.exited.done():
            self._zygote.send(Kill(self.pid))

    def abort(self) -> None:
        """End it within a moment; before, it tells its stderr what it is doing, if it can."""
        if not self.exited.done():
            self._zygote.send(Kill(self.pid, is_abort=True))
            asyncio.get_running_loop().call_later(_LAST_WORDS_S, self.kill)

    @property
    def pids(self) -> list[int]:
        """All processes that it is known to consist of."""
        return [self.pid]

    async def open_channel(
        self,
        max_frame_bytes: int,
        on_frame: Callable[[Frame], None],
        on_lost: Callable[[str | None], None],
    ) -> Channel:
        """Connect to the worker; once."""
        _, channel = await asyncio.get_running_loop().create_connection(
            lambda: Channel(max_frame_bytes, on_frame, on_lost), sock=self.channel
        )
        return channel


class Supervisor:
    """Owns every child process of the server."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = dict(environ)
        """What every worker inherits."""
        self._zygotes: dict[tuple[str, tuple[str, ...]], Zygote] = {}
        self._guard: Guard | None = None

    @property
    def guard(self) -> Guard:
        """What sees to it that nothing outlives the server; there from the first use on."""
        if self._guard is None:
            self._guard = Guard(PACKAGE_ROOTS)
        return self._guard

    async def spawn(
        self,
        worker: str,
        ref: ModelRef,
        preload: tuple[str, ...],
        python: str = sys.executable,
        *,
        command: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        needs: str = "",
        confinement: Confinement | None = None,
    ) -> WorkerProcess:
        """A newborn worker for `ref`, forked from a `python` that has imported `preload`.

        Args:
            worker: what it is called.
            ref: for the log.
            preload: modules that the worker finds imported.
            python: the interpreter.
            command: what it becomes at once, instead of a worker.
            environ: for `command`, variables besides those of every worker.
            needs: a package; without it `command` ends at once with `messages.PACKAGE_MISSING`.
            confinement: how it is shut in; it gets a scratch folder, which goes when it ends.

        Raises:
            LoadFailed: no process could be started.
        """
        zygote = self._zygotes.get((python, preload))
        if zygote is None or zygote.is_gone:
            zygote = Zygote(python, preload, self.environ, self.guard)
            self._zygotes[python, preload] = zygote
        scratch = self.guard.scratch(worker)
        wish = msgspec.structs.replace(confinement or Confinement(), scratch=str(scratch))
        request = Spawn(worker, list(command), dict(environ or {}), needs, wish)
        try:
            process = await zygote.spawn(ref, request)
        except BaseException:
            _remove(scratch)
            raise
        process.exited.add_done_callback(lambda _: _remove(scratch))
        return process

    async def close(self) -> None:
        """End all zygotes and with them every worker; returns when they are gone."""
        zygotes, self._zygotes = self._zygotes, {}
        for zygote in zygotes.values():
            zygote.hang_up()
        for zygote in zygotes.values():
            await asyncio.to_thread(zygote.wait)
        if self._guard is not None:
            await self._guard.close()


class Zygote:
    """The server's end of one zygote process."""

    def __init__(
        self, python: str, preload: tuple[str, ...], environ: Mapping[str, str], guard: Guard
    ) -> None:
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        self._spawning: dict[str, tuple[asyncio.Future[WorkerProcess], socket.socket]] = {}
        self._workers: dict[int, asyncio.Future[int]] = {}
        self._answers: msgspec.msgpack.Decoder[FromZygote] = msgspec.msgpack.Decoder(FromZygote)
        self._is_ready = False
        self._deaf_check: asyncio.TimerHandle | None = None
        self.is_gone = False
        try:
            self._process = subprocess.Popen(
                [
                    python,
                    "-P",
                    "-c",
                    _BOOT,
                    str(theirs.fileno()),
                    str(os.getpid()),
                    str(guard.server),
                    ",".join(preload),
                    *PACKAGE_ROOTS,
                ],
                env={**environ, **guard.environ},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        finally:
            theirs.close()
        self._loop.add_reader(self._control, self._readable)

    async def spawn(self, ref: ModelRef, request: Spawn) -> WorkerProcess:
        """Fork a worker. Waits for the imports when the zygote is new."""
        worker = request.worker
        ours, theirs = socket.socketpair()
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in _STREAMS]
        born: asyncio.Future[WorkerProcess] = self._loop.create_future()
        self._spawning[worker] = (born, ours)
        try:
            try:
                self.send(request, (theirs.fileno(), *(write_fd for _, write_fd in pipes)))
            except LoadFailed as error:
                born.set_exception(error)
            finally:
                theirs.close()
                for _, write_fd in pipes:
                    os.close(write_fd)
            outputs = [_OutputLines(worker, ref, stream) for stream in _STREAMS]
            for lines, (read_fd, _) in zip(outputs, pipes, strict=True):
                await _follow_output(lines, read_fd)
            process = await born
            process.errors = outputs[-1]
            return process
        finally:
            born.cancel()
            self._spawning.pop(worker, None)
            if born.cancelled() or born.exception() is not None:
                ours.close()

    def send(self, message: ToZygote, descriptors: tuple[int, ...] = ()) -> None:
        """Queue a message. A zygote that is gone needs none: its workers are gone with it."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        try:
            self._control.sendmsg([msgspec.msgpack.encode(message)], rights if descriptors else [])
            self._be_heard()
        except BlockingIOError as error:
            if descriptors:
                raise LoadFailed("No worker process could be started: too many at once.") from error
            self._loop.call_later(_RETRY_S, self.send, message)
        except OSError as error:
            if descriptors:
                raise LoadFailed(f"No worker process could be started: {error}.") from error

    def hang_up(self) -> None:
        """Tell the zygote to end, and its workers with it."""
        if not self.is_gone:
            self._control.shutdown(socket.SHUT_WR)
            self._process.send_signal(signal.SIGCONT)  # somebody may have stopped it

    def wait(self, timeout_s: float = 5.0) -> None:
        """Block until the process has ended; kill it when it does not within `timeout_s`."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _be_heard(self) -> None:
        """See to it that a zygote which is stopped or stuck holds up nobody for long."""
        if self._is_ready and self._deaf_check is None:
            self._deaf_check = self._loop.call_later(_DEAF_S, self._wake_if_deaf, False)

    def _wake_if_deaf(self, was_woken: bool) -> None:
        self._deaf_check = None
        if self.is_gone or not (self._has_unread() or self._is_stopped()):
            return
        if was_woken:
            _log.error("the process that starts workers does nothing any more and is ended")
            self._process.kill()  # the kernel ends its workers with it, and all are replaced
            return
        _log.warning("the process that starts workers does nothing and is woken up")
        self._process.send_signal(signal.SIGCONT)
        self._deaf_check = self._loop.call_later(_DEAF_FOR_GOOD_S, self._wake_if_deaf, True)

    def _has_unread(self) -> bool:
        count = fcntl.ioctl(self._control, termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(count, sys.byteorder) > 0

    def _is_stopped(self) -> bool:
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_bytes()
        except OSError:
            return False
        return stat.rpartition(b")")[2].split()[0] in (b"T", b"t")

    def _readable(self) -> None:
        while True:
            try:
                data = self._control.recv(MAX_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._gone()
                return
            self._received(self._answers.decode(data))

    def _received(self, message: FromZygote) -> None:
        if isinstance(message, Spawned):
            exited: asyncio.Future[int] = self._loop.create_future()
            self._workers[message.pid] = exited
            born, channel = self._spawning.get(message.worker, (None, None))
            if born is None or channel is None or born.done():
                self.send(Kill(message.pid))  # whoever asked for it has given up
            else:
                process = WorkerProcess(message.worker, message.pid, channel, exited, self)
                born.set_result(process)
        elif isinstance(message, SpawnFailed):
            born, _ = self._spawning.get(message.worker, (None, None))
            if born is not None and not born.done():
                born.set_exception(
                    LoadFailed(f"No worker process could be started: {message.message}.")
                )
        elif isinstance(message, Exited):
            exited = self._workers.pop(message.pid)
            exited.set_result(message.status)
        else:
            self._ready(message)

    def _ready(self, message: ZygoteReady) -> None:
        self._is_ready = True
        self._be_heard()
        for problem in message.problems:
            _log.warning("%s", problem)

    def _gone(self) -> None:
        self.is_gone = True
        self._loop.remove_reader(self._control)
        self._control.close()
        if self._deaf_check is not None:
            self._deaf_check.cancel()
        self._loop.run_in_executor(None, self.wait)  # it has ended, or is just about to
        self._guard.end_all_of(self._workers)
        for exited in self._workers.values():
            exited.set_result(-1)
        self._workers.clear()
        for born, _ in self._spawning.values():
            if not born.done():
                born.set_exception(LoadFailed("The process that starts workers has ended."))


class _OutputLines(asyncio.Protocol):
    """What a worker prints on one stream, line by line, into the model log."""

    def __init__(self, worker: str, ref: ModelRef, stream: str) -> None:
        title = f"W-{worker}-{ref.name}_{ref.version}-{stream}"
        self._extra = {"worker": title, "ref": ref}
        self._level = _STREAMS[stream]
        self._allowance = OutputAllowance()
        self._rest = b""
        self.tail = bytearray()
        """The end of what came."""

    def data_received(self, data: bytes) -> None:
        self.tail += data[-_TAIL_BYTES:]
        del self.tail[:-_TAIL_BYTES]
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._log_line(line)
        if len(self._rest) > _MAX_LINE_BYTES:
            self._log_line(self._rest)
            self._rest = b""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest:
            self._log_line(self._rest)
        self._tell_dropped(self._allowance.untold(time.monotonic(), is_last=True))

    def _log_line(self, line: bytes) -> None:
        now = time.monotonic()
        is_taken = self._allowance.takes(now)
        self._tell_dropped(self._allowance.untold(now))
        if not is_taken:
            return
        text = line[:_MAX_LINE_BYTES].decode("utf-8", "replace")
        _model_log.log(self._level, "%s", text, extra=self._extra)

    def _tell_dropped(self, lines: int) -> None:
        if lines:
            title = {"worker": self._extra["worker"]}
            message = "%d lines were dropped: more than may be printed at once."
            _model_log.warning(message, lines, extra=title)


async def _follow_output(lines: _OutputLines, read_fd: int) -> None:
    loop = asyncio.get_running_loop()
    # uvloop closes the descriptor itself and then the file object: closing twice would hit
    # whatever another thread has opened under the same number meanwhile.
    pipe = os.fdopen(read_fd, "rb", buffering=0, closefd=False)
    await loop.connect_read_pipe(lambda: lines, pipe)


def _remove(scratch: Path) -> None:
    """Soon, in a thread: there may be much in it."""
    asyncio.get_running_loop().run_in_executor(None, warden.remove, str(scratch))


def describe_exit(status: int) -> str:
    """How a process ended, in words."""
    if status == -1:
        return "ended together with the process that started it"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"killed by signal {number} ({_signal_name(number)})"
    return f"exited with code {os.WEXITSTATUS(status)}"


def was_killed(status: int) -> bool:
    """Whether SIGKILL ended a process."""
    return status != -1 and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
