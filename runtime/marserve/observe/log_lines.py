"""What a log line looks like: TorchServe's patterns, and nothing in them that a stranger forged.

Pure but for `Stamps`, which is asked once per line and reads the clock.
"""

from __future__ import annotations

import logging
import re
import time

FULL = "%(asctime)s [%(level)-5s] %(origin)s %(name)s - %(message)s"
SHORT = "%(asctime)s %(level)-5s %(message)s"
MAX_CHARS = 8 * 1024

_SECONDS = "%Y-%m-%dT%H:%M:%S"
_LEVELS = {"WARNING": "WARN", "CRITICAL": "FATAL"}

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""All that moves a cursor or ends a line, but for tab and newline."""
_UNQUOTABLE = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"\\\\]')


class Stamps:
    """The moment, as lines begin with it: `2024-05-01T10:00:00,123`. For one thread."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def now(self) -> tuple[float, str]:
        """Seconds since the epoch, and the stamp."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = time.strftime(_SECONDS, time.localtime(second))
        return now, f"{self._text},{int((now - second) * 1000):03d}"


class Lines(logging.Formatter):
    """One record, one line that cannot be forged: what follows a newline is indented.

    A record with an attribute `is_finished` is printed as it is; one with `worker` has that in
    the place of its thread.
    """

    default_time_format = _SECONDS

    def format(self, record: logging.LogRecord) -> str:
        """The line, or several of which all but the first are indented."""
        if getattr(record, "is_finished", False):
            return record.getMessage()
        record.level = _LEVELS.get(record.levelname, record.levelname)
        record.origin = getattr(record, "worker", record.threadName)
        text = super().format(record)
        if len(text) > MAX_CHARS:
            text = f"{text[:MAX_CHARS]} ... ({len(text) - MAX_CHARS} more characters)"
        return _CONTROL.sub(_escape, text).replace("\n", "\n    ")


def quotable(text: str) -> str:
    """`text` as it may stand between quotes in one line."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return _UNQUOTABLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
