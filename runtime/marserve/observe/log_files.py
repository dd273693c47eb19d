"""Where written lines end up: files that turn over, and standard output.

A file turns over at 100 MB and at midnight: `ts_log.log` becomes `ts_log.22-Nov.log`, and a
thread packs that as `ts_log.22-Nov.log.gz`. The five newest are kept. What cannot be written, or
turned over, is counted or tried again later; it never stops whoever logs.
"""

from __future__ import annotations

import gzip
import logging
import os
import re
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

from marserve.observe.log_lines import FULL, SHORT, Lines

FILE_BYTES = 100 * 1024 * 1024
FILES_KEPT = 5
RETRY_S = 60.0

_PART = ".part"


class _Counting(logging.Handler):
    """A handler that counts what it cannot write instead of complaining on stderr."""

    unwritten = 0

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Count the lines of `record` as lost."""
        is_finished = getattr(record, "is_finished", False)
        self.unwritten += record.getMessage().count("\n") + 1 if is_finished else 1


class LogFile(_Counting, logging.FileHandler):
    """One of TorchServe's files. `logger`: whose records it takes, for whoever routes them."""

    def __init__(self, path: Path, logger: str | None) -> None:
        super().__init__(path, encoding="utf-8")
        self.logger = logger
        self.setFormatter(Lines(FULL))
        self._path = path
        self._packing: threading.Thread | None = None
        self._turns_over = path.is_file()  # a device or a pipe does not
        self._midnight = _midnight_after(path.stat().st_mtime if self._size() else time.time())
        self._try_at = 0.0
        """When to turn over at the earliest."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record`, to a new file when it is time for one."""
        now = time.time()
        is_due = now >= self._midnight or self._size() >= FILE_BYTES
        if is_due and self._turns_over and now >= self._try_at:
            self._turn_over(now)
        super().emit(record)

    def close(self) -> None:
        """Close the file; a packing that is under way may take a moment more."""
        with suppress(OSError):  # the disk is full: what could not be written is counted already
            super().close()
        if self._packing is not None:
            self._packing.join(1.0)

    def _size(self) -> int:
        try:
            return self.stream.tell() if self.stream is not None else 0
        except OSError:  # it cannot seek
            return 0

    def _turn_over(self, now: float) -> None:
        self._try_at = now + RETRY_S
        if self._packing is not None and self._packing.is_alive():
            return
        if self._size():
            day = time.localtime(min(now, self._midnight - 1))
            try:
                self._begin_anew(_free_name(self._path, day))
            except OSError:  # no room for a new file: the old one goes on for a while
                return
        self._try_at = 0.0
        self._midnight = _midnight_after(now)

    def _begin_anew(self, former: Path) -> None:
        with suppress(FileNotFoundError):  # somebody else has moved it
            self._path.rename(former)
        old, self.stream = self.stream, self._open()
        if old is not None:
            old.close()
        self._packing = threading.Thread(
            target=pack, args=(self._path,), name=f"pack {self._path.name}", daemon=True
        )
        self._packing.start()


class Console(_Counting):
    """Standard output: short lines for a person at a terminal, full ones for a collector.

    Written without Python's stream: a thread stuck in its buffer would end the process's own end
    with a fatal error.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        is_terminal = os.isatty(descriptor)
        self.setFormatter(Lines(SHORT, "%H:%M:%S") if is_terminal else Lines(FULL))

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record` whole."""
        rest = memoryview(f"{self.format(record)}\n".encode())
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            self.handleError(record)


def pack(path: Path) -> None:
    """Compress what was turned over of the log `path`, earlier leftovers too; drop the oldest."""
    for old in _turned_over(path):
        if old.suffix != ".gz":
            with suppress(OSError):
                _compress(old)
    for old in _turned_over(path)[FILES_KEPT:]:
        with suppress(OSError):
            old.unlink()


def _compress(old: Path) -> None:
    whole = old.with_name(old.name + ".gz")
    part = old.with_name(old.name + ".gz" + _PART)
    when = old.stat()
    with old.open("rb") as source, gzip.open(part, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target, 1024 * 1024)
    os.utime(part, ns=(when.st_atime_ns, when.st_mtime_ns))
    part.rename(whole)
    old.unlink()


def _turned_over(path: Path) -> list[Path]:
    """The former files of the log `path`, newest first."""
    pattern = re.compile(re.escape(path.stem) + r"\.\d\d-[^.]+(\.\d+)?\.log(\.gz)?")
    found = []
    for one in path.parent.iterdir():
        if pattern.fullmatch(one.name):
            with suppress(FileNotFoundError):
                found.append((one.stat().st_mtime_ns, one))
    return [one for _, one in sorted(found, reverse=True)]


def _free_name(path: Path, day: time.struct_time) -> Path:
    """What the file of `day` is called from now on; a second one of a day gets a number."""
    stem = f"{path.stem}.{time.strftime('%d-%b', day)}"
    number = 1
    while True:
        name = f"{stem}.log" if number == 1 else f"{stem}.{number}.log"
        free = path.with_name(name)
        if not free.exists() and not free.with_name(name + ".gz").exists():
            return free
        number += 1


def _midnight_after(moment: float) -> float:
    day = time.localtime(moment)
    return time.mktime((day.tm_year, day.tm_mon, day.tm_mday + 1, 0, 0, 0, 0, 0, -1))
