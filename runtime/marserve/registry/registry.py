"""Sole owner of what is wanted: in memory, and on disk for the next start.

A change is on disk before it is true: `commit` returns when the new state would survive a power
cut, or raises and nothing has changed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path

from marserve.errors import StateNotSaved
from marserve.registry.snapshot import SnapshotInvalid, dump, load
from marserve.registry.wanted import Wanted

_log = logging.getLogger("marserve.registry")
FILE_NAME = "wanted.json"
PREVIOUS_NAME = "wanted.previous.json"


class Registry:
    """The wanted state. `directory` None: nothing is kept for the next start."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self.wanted = Wanted()

    def restore(self) -> Wanted:
        """What the last `commit` wrote, or an empty state; a damaged file is moved aside, loudly.

        Does not change `wanted`: that is for whoever finds the archives still there.
        """
        if self._directory is None:
            return Wanted()
        for name in (FILE_NAME, PREVIOUS_NAME):
            path = self._directory / name
            try:
                return load(path.read_bytes())
            except FileNotFoundError:
                continue
            except (SnapshotInvalid, OSError) as error:
                aside = path.with_suffix(".damaged")
                with contextlib.suppress(OSError):
                    path.replace(aside)
                _log.error("%s cannot be used: %s; it is kept as %s", path, error, aside.name)
        return Wanted()

    def commit(self, wanted: Wanted) -> None:
        """Make `wanted` the state. Blocks for a disk flush.

        Raises:
            StateNotSaved: it could not be written; the old state stays.
        """
        if self._directory is not None:
            try:
                self._write(dump(wanted))
            except OSError as error:
                raise StateNotSaved(
                    f"The change was not made, because it could not be saved: {error}."
                ) from error
        self.wanted = wanted

    def _write(self, document: bytes) -> None:
        assert self._directory is not None
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / FILE_NAME
        partial = self._directory / (FILE_NAME + ".partial")
        with partial.open("wb") as file:
            file.write(document)
            file.flush()
            os.fsync(file.fileno())
        previous = self._directory / PREVIOUS_NAME
        is_first = not path.exists()
        if not is_first:
            _keep(path, previous)
        partial.replace(path)
        try:
            _flush(self._directory)
        except OSError:
            # the change is refused now, so it must not come back with the next start
            with contextlib.suppress(OSError):
                if is_first:
                    path.unlink()
                else:
                    previous.replace(path)
            raise


def _keep(path: Path, previous: Path) -> None:
    previous.unlink(missing_ok=True)
    try:
        previous.hardlink_to(path)
    except OSError:  # some file systems have no hard links
        shutil.copyfile(path, previous)


def _flush(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
