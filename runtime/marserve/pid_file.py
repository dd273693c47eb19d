"""`.model_server.pid` in the folder for temporary files: where scripts for TorchServe look.

It holds a process id and nothing else. The server writes it only under TorchServe's command names;
our own commands go by `run_file.py`, which is claimed in any case. Anybody may write into that
folder, and ids are used again, so a process counts only if it is as old as the file and belongs
to the file's owner.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from marserve.errors import ConfigInvalid, Kind, MarServeError

_NAME = ".model_server.pid"
_LONGEST_BYTES = 32
_CLOCK_TOLERANCE_S = 2.0
"""A start time is counted from the boot time, which moves when the clock is set."""


class PidTaken(MarServeError):
    """A server lives whose id is in the file."""

    kind = Kind.PORT_IN_USE

    def __init__(self, pid: int) -> None:
        super().__init__(
            f"A server is already running (pid {pid}): end it with --stop, or give this one "
            "another folder for temporary files (TMPDIR)."
        )


class PidFile:
    """The file of one folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.path = (folder or Path(tempfile.gettempdir())) / _NAME

    def exists(self) -> bool:
        """Something lies there, be it of use or not."""
        return os.path.lexists(self.path)

    def process(self) -> psutil.Process | None:
        """The server that runs, or None."""
        found = self._read()
        if found is None:
            return None
        pid, written_at, owner = found
        try:
            process = psutil.Process(pid)
            if process.create_time() > written_at + _CLOCK_TOLERANCE_S:
                return None  # the id was used again
            if process.uids().real != owner or process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.Error:
            return None
        return process

    def _read(self) -> tuple[int, float, int] | None:
        """Process id, time of the file, its owner; None for what is no such file."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        with os.fdopen(handle, "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                return None
            content = file.read(_LONGEST_BYTES).strip()
        if not content.isdigit() or not 0 < int(content) < 2**31:
            return None
        return int(content), facts.st_mtime, facts.st_uid

    @contextlib.contextmanager
    def claimed(self, succeeds: int | None = None) -> Iterator[None]:
        """For the serving process: the file has its id until the block ends.

        `succeeds`: the process that it takes over from.

        Raises:
            PidTaken: another server lives there.
            ConfigInvalid: the file cannot be written.
        """
        other = self.process()
        if other is not None and other.pid != succeeds:
            raise PidTaken(other.pid)
        self._write(os.getpid())
        try:
            yield
        finally:
            self.remove(os.getpid())

    def _write(self, pid: int) -> None:
        draft = None
        try:
            handle, draft = tempfile.mkstemp(prefix=_NAME, dir=self.path.parent)
            with os.fdopen(handle, "w") as file:
                file.write(str(pid))
            Path(draft).chmod(0o644)
            Path(draft).replace(self.path)
        except OSError as error:
            if draft is not None:
                Path(draft).unlink(missing_ok=True)
            raise ConfigInvalid(
                f"{self.path} cannot be written ({(error.strerror or str(error)).lower()}): "
                "let TMPDIR name a folder of your own."
            ) from error

    def remove(self, pid: int | None = None) -> None:
        """Remove the file; with `pid` only if it still has that id."""
        if pid is not None:
            found = self._read()
            if found is None or found[0] != pid:
                return
        with contextlib.suppress(OSError):
            self.path.unlink()
