"""One small file that survives a power cut whole: the new content, or the one before.

Calls block for disk flushes. For one caller at a time. What the content means is its owner's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from marserve.registry.checked_document import DocumentInvalid

_log = logging.getLogger("marserve.registry")
_T = TypeVar("_T")


class DurableFile:
    """`name` in `directory`, which is made if it is missing; beside it, the content before."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._path = directory / name
        self._previous = directory / f"{self._path.stem}.previous{self._path.suffix}"

    def read(self, load: Callable[[bytes], _T]) -> _T | None:
        """What `load` makes of the content; None when there is none that it takes.

        A file refused with DocumentInvalid is moved aside, loudly, and the one before is read.
        """
        for path in (self._path, self._previous):
            try:
                return load(path.read_bytes())
            except FileNotFoundError:
                continue
            except (DocumentInvalid, OSError) as error:
                aside = path.with_suffix(".damaged")
                with contextlib.suppress(OSError):
                    path.replace(aside)
                _log.error("%s cannot be used: %s; it is kept as %s", path, error, aside.name)
        return None

    def write(self, content: bytes) -> None:
        """Make `content` what the next `read` finds.

        Raises:
            OSError: it could not be written; what was there stays.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(self._path.name + ".partial")
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        is_first = not self._path.exists()
        if not is_first:
            self._keep()
        partial.replace(self._path)
        try:
            _flush(self._directory)
        except OSError:
            # the change is refused now, so it must not come back with the next start
            with contextlib.suppress(OSError):
                if is_first:
                    self._path.unlink()
                else:
                    self._previous.replace(self._path)
            raise

    def _keep(self) -> None:
        self._previous.unlink(missing_ok=True)
        try:
            self._previous.hardlink_to(self._path)
        except OSError:  # some file systems have no hard links
            shutil.copyfile(self._path, self._previous)


def _flush(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
