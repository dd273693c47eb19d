"""A bounded buffer and the thread behind it, so that nobody who logs waits for a disk or a pipe.

When the writer does not keep up, the oldest records and lines are dropped and counted.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from logging.handlers import QueueHandler

from marserve.observe.log_files import Console, LogFile

BUFFER_RECORDS = 10_000
BUFFER_LINES = 50_000
CHUNK_LINES = 1_000
LINES_WAIT_S = 0.2

_LOST = "{} log records were dropped: they came faster than they can be written."

Routes = Callable[[str], "str | None"]
"""The name of a logger -> the logger whose file takes its records."""


class _Buffer:
    """Records and finished lines on their way to a writer. Full, it drops its oldest."""

    def __init__(self, line_loggers: Sequence[str]) -> None:
        self.lost_records = 0
        self.lost_lines = 0
        self._records: deque[logging.LogRecord] = deque()
        self._lines: dict[str, deque[str]] = {
            logger: deque(maxlen=BUFFER_LINES) for logger in line_loggers
        }
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

    def add_lines(self, logger: str, lines: Sequence[str]) -> None:
        """Add finished lines. Takes no lock and wakes nobody."""
        waiting = self._lines[logger]
        self.lost_lines += max(0, len(waiting) + len(lines) - BUFFER_LINES)
        waiting.extend(lines)

    def get(self) -> logging.LogRecord | None:
        """The oldest record or some lines as one; None when the buffer is closed and empty."""
        with self._changed:
            while True:
                logger = max(self._lines, key=lambda name: len(self._lines[name]))
                waiting = len(self._lines[logger])
                if self._records and waiting <= CHUNK_LINES:
                    return self._records.popleft()
                if waiting:
                    return self._some_of(logger, min(waiting, CHUNK_LINES))
                if self._is_closed:
                    return None
                self._changed.wait(LINES_WAIT_S)

    def close(self) -> None:
        """Nothing follows."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _some_of(self, logger: str, count: int) -> logging.LogRecord:
        lines = self._lines[logger]
        record = _record(logger, "\n".join(lines.popleft() for _ in range(count)))
        record.is_finished = True
        return record


class Writer:
    """One thread that writes; `entrance` is the handler through which records come."""

    def __init__(
        self,
        name: str,
        sinks: Sequence[LogFile] | Sequence[Console],
        line_loggers: Sequence[str],
        routes: Routes,
    ) -> None:
        self._sinks = sinks
        self._routes = routes
        self._buffer = _Buffer(line_loggers)
        self.add_lines = self._buffer.add_lines
        self.entrance = QueueHandler(self._buffer)
        self._thread = threading.Thread(target=self._write, name=name, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Records and lines lost so far."""
        return self._lost + sum(sink.unwritten for sink in self._sinks)

    @property
    def _lost(self) -> int:
        return self._buffer.lost_records + self._buffer.lost_lines

    def stop(self, timeout_s: float) -> None:
        """Write what is buffered and close; after `timeout_s` leave the thread behind."""
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
        home = self._routes(record.name)
        for sink in self._sinks:
            # not handle(), which would hold a lock that the exit of the process asks for
            is_its_own = not isinstance(sink, LogFile) or sink.logger == home
            if is_its_own and sink.filter(record):
                sink.emit(record)


def _record(logger: str, message: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord(logger, level, __file__, 0, message, None, None)
