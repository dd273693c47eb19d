"""One small file that survives a power cut whole: the new content, or the one before.

Calls block for disk flushes. For one caller at a time. What the content means is its owner's.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from marserve.registry.checked_document import DocumentInvalid
from marserve_archiver.disk import DISK, Disk, make_folders, sync_folder, write_new_file

_log = logging.getLogger("marserve.registry")
_T = TypeVar("_T")


class DurableFile:
    """`name` in `directory`, which is made if it is missing; beside it, the content before."""

    def __init__(self, directory: Path, name: str, disk: Disk = DISK) -> None:
        self._directory = directory
        self._path = directory / name
        self._previous = directory / f"{self._path.stem}.previous{self._path.suffix}"
        self._partial = directory / f"{name}.partial"
        self._disk = disk
        self._is_placed = False
        """Whether the folder is known to be on the disk."""

    def read(self, load: Callable[[bytes], _T]) -> _T | None:
        """What `load` makes of the content; None when there is none that it takes.

        A file refused with DocumentInvalid is moved aside, loudly, and the one before is read.
        """
        for path in (self._path, self._previous):
            try:
                return load(self._disk.read(path))
            except FileNotFoundError:
                continue
            except (DocumentInvalid, OSError) as error:
                aside = path.with_suffix(".damaged")
                with contextlib.suppress(OSError):
                    self._disk.rename(path, aside)
                _log.error("%s cannot be used: %s; it is kept as %s", path, error, aside.name)
        return None

    def write(self, content: bytes) -> None:
        """Make `content` what the next `read` finds.

        Raises:
            OSError: it could not be written; what was there stays.
        """
        disk = self._disk
        if not self._is_placed:
            make_folders(self._directory, disk)
            self._is_placed = True
        self._remove(self._partial)  # of a process that ended while it wrote
        write_new_file(disk, self._partial, content)
        try:
            is_first = not disk.exists(self._path)
            if not is_first:
                self._keep()
            disk.rename(self._partial, self._path)
        except OSError:
            with contextlib.suppress(OSError):
                disk.remove(self._partial)
            raise
        try:
            sync_folder(self._directory, disk)
        except OSError:
            self._take_back(is_first)
            raise

    def _keep(self) -> None:
        """Give what is there a second name, of which it is the only file."""
        self._remove(self._previous)
        try:
            self._disk.link(self._path, self._previous)
        except OSError:  # some file systems have no hard links
            write_new_file(self._disk, self._previous, self._disk.read(self._path))

    def _take_back(self, is_first: bool) -> None:
        """The change is refused now, so it must not come back with the next start."""
        with contextlib.suppress(OSError):
            if is_first:
                self._disk.remove(self._path)
            else:
                self._disk.rename(self._previous, self._path)
            # it is not known what of all this is on the disk; a second try may settle it
            sync_folder(self._directory, self._disk)

    def _remove(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._disk.remove(path)
