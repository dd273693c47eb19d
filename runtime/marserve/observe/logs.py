"""Where log lines go: TorchServe's files, the console, and never in anybody's way.

A thread that logs only puts the record into a bounded buffer; a writer behind each buffer does
the slow part. When a disk or a pipe does not keep up, the oldest records are dropped and counted.
The console has a writer of its own, so a terminal that stands still does not stop the files.

    access_log.log   one line per answer, from `AccessLog`
    model_log.log    logger `marserve.model` and those below it: what workers print; a record's
                     `worker` stands where others have their thread
    ts_log.log       everything else
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from logging.handlers import QueueHandler, RotatingFileHandler
from pathlib import Path

from marserve.errors import ConfigInvalid
from marserve.events import Bus, HttpAnswered, RequestAnswered

MODEL_LOGGER = "marserve.model"

BUFFER_RECORDS = 10_000
BUFFER_LINES = 50_000
CHUNK_LINES = 1_000
LINES_WAIT_S = 0.2
MAX_CHARS = 16 * 1024
FILE_BYTES = 100 * 1024 * 1024
FILES_KEPT = 5

_ACCESS = "marserve.access"
_FULL = "%(asctime)s [%(level)-5s] %(origin)s %(name)s - %(message)s"
_FILES = (("access_log.log", _ACCESS), ("model_log.log", MODEL_LOGGER), ("ts_log.log", None))
"""Each file, and the logger whose records it takes; None: all that have no file of their own."""

_SHORT = "%(asctime)s %(level)-5s %(message)s"
_SECONDS = "%Y-%m-%dT%H:%M:%S"
_LEVELS = {"WARNING": "WARN", "CRITICAL": "FATAL"}

_LOST = "{} log records were dropped: they came faster than they can be written."

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""All that moves a cursor or ends a line, but for tab and newline."""
_UNQUOTABLE = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"\\\\]')


class Logs:
    """The running log. `close()` writes what is buffered and gives the root logger back."""

    def __init__(self, writers: list[_Writer]) -> None:
        self._writers = writers
        root = logging.getLogger()
        self._root_level = root.level
        root.setLevel(logging.INFO)
        for writer in writers:
            root.addHandler(writer.entrance)

    def add_access_line(self, line: str) -> None:
        """Write `line` to the access log. For the event loop's thread alone; never waits."""
        for writer in self._writers:
            writer.add_line(line)

    @property
    def dropped(self) -> int:
        """Records lost so far because a writer could not keep up or could not write."""
        return sum(writer.dropped for writer in self._writers)

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop; a writer that is stuck for `timeout_s` is left behind. May be called twice."""
        root = logging.getLogger()
        root.setLevel(self._root_level)
        for writer in self._writers:
            root.removeHandler(writer.entrance)
        for writer in self._writers:
            writer.stop(timeout_s)


def configure(log_dir: Path, foreground: bool) -> Logs:
    """Send all logging to files in `log_dir`, and in the foreground to stdout as well.

    Raises:
        ConfigInvalid: `log_dir` cannot be made or written.
    """
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        files = _opened(log_dir)
    except OSError as error:
        raise ConfigInvalid(
            f"The log directory {log_dir} cannot be written ({error.strerror}). "
            "Make it writable or choose another with LOG_LOCATION."
        ) from error
    writers = [_Writer("log-files", files)]
    if foreground:
        writers.append(_Writer("log-console", [_Console(sys.stdout.fileno())]))
    # waitress warns whenever all its threads are busy, which is not for an operator to act on
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    return Logs(writers)


class AccessLog:
    """One line per answer of any port, in TorchServe's form.

    This runs once per request, so it goes around `logging`: the line is made here and handed
    over without a lock; the writer looks for such lines now and then. Queries stay out of it:
    they can hold signed URLs and tokens.
    """

    def __init__(self, bus: Bus, logs: Logs) -> None:
        self._add = logs.add_access_line
        self._second = 0
        self._stamp = ""
        bus.subscribe(HttpAnswered, self._http_answered)
        bus.subscribe(RequestAnswered, self._request_answered)

    def _http_answered(self, event: HttpAnswered) -> None:
        self._line(event.client, event.method, event.path, event.status, event.duration_s)

    def _request_answered(self, event: RequestAnswered) -> None:
        self._line(event.client, event.method, event.path, event.status, event.latency_s)

    def _line(self, client: str, method: str, path: str, status: int, duration_s: float) -> None:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime(_SECONDS, time.localtime(second))
        resource = _quotable(path.partition("?")[0])
        self._add(
            f"{self._stamp},{int((now - second) * 1000):03d} - /{client} "
            f'"{_quotable(method)} {resource} HTTP/1.1" {status} {duration_s * 1000:.0f}'
        )


class _Buffer:
    """Records and lines on their way to a writer. Full, it drops its oldest."""

    def __init__(self) -> None:
        self.lost_records = 0
        self.lost_lines = 0
        self._records: deque[logging.LogRecord] = deque()
        self._lines: deque[str] = deque(maxlen=BUFFER_LINES)
        self._changed = threading.Condition()
        self._is_closed = False

    def put_nowait(self, record: logging.LogRecord) -> None:
        """Add `record`. Never waits for the writer. The name is `QueueHandler`'s choice."""
        with self._changed:
            if len(self._records) >= BUFFER_RECORDS:
                self._records.popleft()
                self.lost_records += 1
            self._records.append(record)
            self._changed.notify()

    def add_line(self, line: str) -> None:
        """Add a finished line; for one thread only. Takes no lock and wakes nobody."""
        if len(self._lines) == BUFFER_LINES:
            self.lost_lines += 1
        self._lines.append(line)

    def get(self) -> logging.LogRecord | None:
        """The oldest record or some lines as one; None when the buffer is closed and empty."""
        with self._changed:
            while not self._records:
                if self._lines:
                    break
                if self._is_closed:
                    return None
                self._changed.wait(LINES_WAIT_S)
            if not self._records or len(self._lines) > CHUNK_LINES:
                count = min(len(self._lines), CHUNK_LINES)
                return _record(_ACCESS, "\n".join(self._lines.popleft() for _ in range(count)))
            return self._records.popleft()

    def close(self) -> None:
        """Nothing follows."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()


class _Counting(logging.Handler):
    """A handler that counts what it cannot write instead of complaining on stderr."""

    unwritten = 0

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        self.unwritten += record.getMessage().count("\n") + 1 if record.name == _ACCESS else 1


class _File(_Counting, RotatingFileHandler):
    """One of TorchServe's files; takes the records of `logger` and below."""

    def __init__(self, path: Path, logger: str | None) -> None:
        super().__init__(path, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8")
        self.setFormatter(_Lines(_FULL))
        self.addFilter(lambda record: _home(record.name) == logger)

    def close(self) -> None:
        with suppress(OSError):  # the disk is full: what could not be written is counted already
            super().close()


class _Console(_Counting):
    """Standard output: short lines for a person at a terminal, full ones for a collector.

    Written without Python's stream: a thread stuck in its buffer would end the process's own end
    with a fatal error.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        is_terminal = os.isatty(descriptor)
        self.setFormatter(_Lines(_SHORT, "%H:%M:%S") if is_terminal else _Lines(_FULL))

    def emit(self, record: logging.LogRecord) -> None:
        rest = memoryview(f"{self.format(record)}\n".encode())
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            self.handleError(record)


class _Lines(logging.Formatter):
    """One record, one line that cannot be forged: what follows a newline is indented."""

    default_time_format = _SECONDS

    def format(self, record: logging.LogRecord) -> str:
        if record.name == _ACCESS:  # made by AccessLog as it is to be
            return record.getMessage()
        record.level = _LEVELS.get(record.levelname, record.levelname)
        record.origin = getattr(record, "worker", record.threadName)
        text = super().format(record)
        if len(text) > MAX_CHARS:
            text = f"{text[:MAX_CHARS]} ... ({len(text) - MAX_CHARS} more characters)"
        return _CONTROL.sub(_escape, text).replace("\n", "\n    ")


class _Writer:
    """One thread that writes; `entrance` is the handler through which records come."""

    def __init__(self, name: str, sinks: list[_File] | list[_Console]) -> None:
        self._sinks = sinks
        self._buffer = _Buffer()
        self.add_line = self._buffer.add_line
        self.entrance = QueueHandler(self._buffer)
        self._thread = threading.Thread(target=self._write, name=name, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._lost + sum(sink.unwritten for sink in self._sinks)

    @property
    def _lost(self) -> int:
        return self._buffer.lost_records + self._buffer.lost_lines

    def stop(self, timeout_s: float) -> None:
        self._buffer.close()
        self._thread.join(timeout_s)
        self.entrance.close()
        if not self._thread.is_alive():
            for sink in self._sinks:
                sink.close()

    # --- runs in the writer's thread ---

    def _write(self) -> None:
        told = 0
        while (record := self._buffer.get()) is not None:
            self._emit(record)
            lost = self._lost
            if lost > told:
                self._emit(_record(__name__, _LOST.format(lost - told), logging.WARNING))
                told = lost

    def _emit(self, record: logging.LogRecord) -> None:
        for sink in self._sinks:
            # not handle(), which would hold a lock that the exit of the process asks for
            if sink.filter(record):
                sink.emit(record)


def _opened(log_dir: Path) -> list[_File]:
    files: list[_File] = []
    try:
        for name, logger in _FILES:
            files.append(_File(log_dir / name, logger))
    except OSError:
        for file in files:
            file.close()
        raise
    return files


def _home(logger: str) -> str | None:
    """Which logger with a file of its own `logger` belongs to, if any."""
    for own in (_ACCESS, MODEL_LOGGER):
        if logger == own or logger.startswith(own + "."):
            return own
    return None


def _record(logger: str, message: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord(logger, level, __file__, 0, message, None, None)


def _quotable(text: str) -> str:
    """`text` as it may stand between quotes in one line."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return _UNQUOTABLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
