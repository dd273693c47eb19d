"""`marserve.json` in the log directory: which process serves here, and at which addresses.

The serving process owns it: claims it before anything else starts, completes it when ready,
removes it at its end. `stop` and `status` read it. A process is known by pid and start time, so a
reused pid is never taken for a server.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

import psutil

from marserve.errors import ConfigInvalid, Kind, MarServeError

_NAME = "marserve.json"
_CLOCK_TOLERANCE_S = 2.0
"""Between start times; only for files that say nothing better."""
_START_FIELD = 19
"""Of /proc/PID/stat, counted from behind the name: when it was started, in ticks since the boot."""


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """The process that serves. Without addresses it is still starting."""

    pid: int
    started_at: float
    """Seconds since the epoch, as psutil tells them."""
    addresses: Mapping[str, str] = field(default_factory=dict[str, str])
    """inference, management, metrics → URL."""
    birth: str = ""
    """The boot of the machine and the moment since. A start time moves when the clock is set, and a
    server would not be known for itself any more."""
    arguments: Sequence[str] = ()
    """What was said to `marserve` to start it."""

    @classmethod
    def current(cls, arguments: Sequence[str] = ()) -> Self:
        """The calling process."""
        pid = os.getpid()
        started_at = psutil.Process().create_time()
        return cls(pid, started_at, birth=_birth(pid), arguments=tuple(arguments))

    def process(self) -> psutil.Process | None:
        """The running process, or None when it has ended."""
        try:
            process = psutil.Process(self.pid)
            if not self._is(process):
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None

    def _is(self, process: psutil.Process) -> bool:
        birth = _birth(self.pid) if self.birth else ""
        if birth:
            return birth == self.birth
        return abs(process.create_time() - self.started_at) <= _CLOCK_TOLERANCE_S


class AlreadyRunning(MarServeError):
    """A server lives with the same log directory."""

    kind = Kind.PORT_IN_USE

    def __init__(self, server: ServerProcess, log_dir: Path) -> None:
        where = ", ".join(server.addresses.values()) or "still starting"
        super().__init__(
            f"A server is already running (pid {server.pid}; {where}) with the log directory "
            f"{log_dir}. Stop it with `marserve stop`, or give this one another log_dir."
        )


class RunFile:
    """The file of one log directory."""

    def __init__(self, log_dir: Path) -> None:
        self.path = log_dir / _NAME

    def read(self) -> ServerProcess | None:
        """What stands there, be the process alive or not; None without a readable file."""
        try:
            document = json.loads(self.path.read_text())
            return ServerProcess(
                int(document["pid"]),
                float(document["started_at"]),
                dict(document["addresses"]),
                str(document.get("birth", "")),
                tuple(map(str, document.get("arguments", ()))),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def living(self) -> ServerProcess | None:
        """The server that runs now, if one does."""
        server = self.read()
        return server if server is not None and server.process() is not None else None

    @contextlib.contextmanager
    def claimed(
        self, arguments: Sequence[str] = (), succeeds: int | None = None
    ) -> Iterator[Claim]:
        """For the serving process: the file is its own until the block ends.

        Args:
            arguments: what was said to start it.
            succeeds: the process that it takes over from, whose claim ends with this.

        Raises:
            AlreadyRunning: another server lives in this log directory.
            ConfigInvalid: the log directory cannot be written.
        """
        make_log_dir(self.path.parent)
        claim = Claim(self.path, ServerProcess.current(arguments))
        with _exclusively(self.path.parent):
            other = self.living()
            if other is not None and other.pid != succeeds:
                raise AlreadyRunning(other, self.path.parent)
            claim.write()
        try:
            yield claim
        finally:
            self.remove(claim.server)

    def remove(self, server: ServerProcess) -> None:
        """Remove the file if it still speaks of `server`."""
        current = self.read()
        if current is not None and current.pid == server.pid:
            with contextlib.suppress(OSError):
                self.path.unlink()


class Claim:
    """The file in the hand of the process that it speaks of."""

    def __init__(self, path: Path, server: ServerProcess) -> None:
        self._path = path
        self.server = server

    def complete(self, addresses: Mapping[str, str]) -> None:
        """Say where the server listens, now that it does."""
        self.server = replace(self.server, addresses=dict(addresses))
        self.write()

    def write(self) -> None:
        """Put the file there in one piece.

        Raises:
            ConfigInvalid: the log directory cannot be written.
        """
        draft = self._path.with_suffix(f".{self.server.pid}.tmp")
        try:
            draft.write_text(json.dumps(asdict(self.server)) + "\n")
            draft.replace(self._path)
        except OSError as error:
            raise _unwritable(self._path.parent, error) from error


def make_log_dir(log_dir: Path) -> None:
    """Create the log directory, and be sure that it can be written.

    Raises:
        ConfigInvalid: it cannot.
    """
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(log_dir, error) from error
    if not os.access(log_dir, os.W_OK | os.X_OK):
        raise _unwritable(log_dir, PermissionError(13, "Permission denied"))


def _birth(pid: int) -> str:
    """When a process came to be, by no clock that can be set; empty where that is not told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return f"{boot} {fields[_START_FIELD]}"
    except (OSError, IndexError):
        return ""


def _unwritable(log_dir: Path, error: OSError) -> ConfigInvalid:
    return ConfigInvalid(
        f"log_dir={log_dir} cannot be written ({(error.strerror or str(error)).lower()}): "
        "make it writable or set another log_dir."
    )


@contextlib.contextmanager
def _exclusively(directory: Path) -> Iterator[None]:
    """Two servers that start at the same moment look one after the other."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no such locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
