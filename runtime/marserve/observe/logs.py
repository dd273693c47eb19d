"""Where log lines go: TorchServe's files, the console, and never in anybody's way.

A thread that logs only puts the record into a bounded buffer; a writer behind each buffer does
the slow part. The console has a writer of its own, so a terminal that stands still does not stop
the files.

    access_log.log      one line per answer, from `AccessLog`
    model_log.log       logger `marserve.model` and those below it: what workers print; a record's
                        `worker` stands where others have their thread
    ts_metrics.log      the server's figures, and
    model_metrics.log   those of handlers, from `MetricsLog`: empty in the mode `prometheus`
    ts_log.log          everything else

No line stands in two files: where TorchServe repeats all of them in its ts_log.log, look into the
file that a line belongs to, or at the console.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from marserve.errors import ConfigInvalid
from marserve.observe.log_files import Console, LogFile
from marserve.observe.log_writer import Writer

MODEL_LOGGER = "marserve.model"
ACCESS_LINES = "marserve.access"
SERVER_METRIC_LINES = "marserve.metrics.server"
MODEL_METRIC_LINES = "marserve.metrics.model"

SERVER_LOG = "ts_log.log"
"""The file in which the server tells about itself: where to look first."""

_LINE_LOGGERS = (ACCESS_LINES, SERVER_METRIC_LINES, MODEL_METRIC_LINES)
_LOG_FILES = {"access_log.log": ACCESS_LINES, "model_log.log": MODEL_LOGGER, SERVER_LOG: None}
"""Each file, and the logger whose records it takes; None: all that have no file of their own."""
_METRIC_FILES = {
    "ts_metrics.log": SERVER_METRIC_LINES,
    "model_metrics.log": MODEL_METRIC_LINES,
}


class Logs:
    """The running log. `close()` writes what is buffered and gives the root logger back."""

    def __init__(self, writers: list[Writer]) -> None:
        self._writers = writers
        root = logging.getLogger()
        self._root_level = root.level
        root.setLevel(logging.INFO)
        for writer in writers:
            root.addHandler(writer.entrance)

    def add_line(self, logger: str, line: str) -> None:
        """Write a finished line, of `ACCESS_LINES` or `…_METRIC_LINES`. Never waits."""
        self.add_lines(logger, [line])

    def add_lines(self, logger: str, lines: Sequence[str]) -> None:
        """The same for several, in order."""
        for writer in self._writers:
            writer.add_lines(logger, lines)

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


def configure(log_dir: Path, foreground: bool, metrics_log_dir: Path | None = None) -> Logs:
    """Send all logging to files, and in the foreground to stdout as well.

    Args:
        log_dir: where the files are; made when missing.
        foreground: whether somebody reads stdout.
        metrics_log_dir: where the two files of metrics are; None: with the others.

    Raises:
        ConfigInvalid: a directory cannot be made or written.
    """
    files = _opened(log_dir, _LOG_FILES, "LOG_LOCATION")
    try:
        files += _opened(metrics_log_dir or log_dir, _METRIC_FILES, "METRICS_LOCATION")
    except ConfigInvalid:
        _close(files)
        raise
    writers = [Writer("log-files", files, _LINE_LOGGERS, _home)]
    if foreground:
        console = [Console(sys.stdout.fileno())]
        writers.append(Writer("log-console", console, _LINE_LOGGERS, _home))
    # waitress warns whenever all its threads are busy, which is not for an operator to act on
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    return Logs(writers)


def _opened(folder: Path, names: dict[str, str | None] | dict[str, str], key: str) -> list[LogFile]:
    files: list[LogFile] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, logger in names.items():
            files.append(LogFile(folder / name, logger))
    except OSError as error:
        _close(files)
        raise ConfigInvalid(
            f"The log directory {folder} cannot be written ({error.strerror}). "
            f"Make it writable or choose another with {key}."
        ) from error
    return files


def _close(files: list[LogFile]) -> None:
    for file in files:
        file.close()


def _home(logger: str) -> str | None:
    """Which logger with a file of its own `logger` belongs to, if any."""
    for own in (*_LINE_LOGGERS, MODEL_LOGGER):
        if logger == own or logger.startswith(own + "."):
            return own
    return None
