"""Remembers what optimising an archive found on this machine, so that it is found once.

A file in the folder that the archive is unpacked to, which is named by the archive's digest; what
is served from a folder of somebody's own is found anew each time. A file that is damaged, or that
cannot be written, is as good as none.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from marserve_handlers.optimize_report import Report

FILE: Final = ".optimized.json"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FORMAT: Final = 1
_POLL_S: Final = 0.05
_MAX_BYTES: Final = 1 << 20


class Records:
    """The findings of one archive.

    Args:
        model_dir: where it is unpacked.
        facts: everything that a finding depends on besides the archive and the machine.
    """

    def __init__(self, model_dir: Path, facts: list[str]) -> None:
        self._dir = model_dir
        self._is_kept = _DIGEST.fullmatch(model_dir.name) is not None
        told = "\n".join([str(_FORMAT), *facts, _processor()])
        self._key = hashlib.sha256(told.encode()).hexdigest()

    def recall(self) -> Report | None:
        """What was found before in the same circumstances."""
        if not self._is_kept:
            return None
        try:
            return Report.from_document(self._read()[self._key])
        except (KeyError, TypeError, AttributeError):
            return None

    def remember(self, report: Report) -> None:
        """Keep a finding."""
        if not self._is_kept:
            return
        text = json.dumps(self._read() | {self._key: report.as_document()}, indent=1)
        with contextlib.suppress(OSError):  # a read-only cache: the next worker looks again
            descriptor, partial = tempfile.mkstemp(prefix=FILE, dir=self._dir)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                Path(partial).replace(self._dir / FILE)
            except BaseException:
                Path(partial).unlink(missing_ok=True)
                raise

    @contextmanager
    def alone(self, patience_s: float) -> Iterator[None]:
        """Let one worker at a time look: they would disturb each other's measurements.

        Whoever has waited for `patience_s` goes on all the same.
        """
        if not self._is_kept:
            yield
            return
        folder = os.open(self._dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            end = time.monotonic() + patience_s
            while not _is_locked(folder) and time.monotonic() < end:
                time.sleep(_POLL_S)
            yield
        finally:
            os.close(folder)

    def _read(self) -> dict[str, Any]:
        try:
            with (self._dir / FILE).open("rb") as file:
                document = json.loads(file.read(_MAX_BYTES))
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}


def _is_locked(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _processor() -> str:
    """Name and abilities of the processor."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        wanted = ("model name", "flags", "Features", "CPU part")
        return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
    return ""
