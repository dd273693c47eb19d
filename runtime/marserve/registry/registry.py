"""Sole owner of what is wanted: in memory, and on disk for the next start.

A change is on disk before it is true: `commit` returns when the new state would survive a power
cut, or raises and nothing has changed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from marserve.errors import StateNotSaved
from marserve.registry.durable_file import DurableFile
from marserve.registry.snapshot import dump, load
from marserve.registry.snapshot_folder import Kind, write_snapshot
from marserve.registry.torchserve_snapshot import versions_of
from marserve.registry.wanted import Wanted
from marserve_archiver.disk import DISK, Disk

_log = logging.getLogger("marserve.registry")
FILE_NAME = "wanted.json"


class Registry:
    """The wanted state. `directory` None: nothing is kept for the next start.

    Beside it lie snapshots in TorchServe's form, for what reads those; they begin with the first
    `record`, and one that cannot be written is only logged.
    """

    def __init__(
        self,
        directory: Path | None,
        snapshots: Path | None = None,
        properties: Mapping[str, str] | None = None,
        disk: Disk = DISK,
    ) -> None:
        """`snapshots`: the folder for TorchServe's form; `properties`: `Config.properties`."""
        self._file = None if directory is None else DurableFile(directory, FILE_NAME, disk)
        self._disk = disk
        self._saved: Wanted | None = None
        self._snapshots = snapshots
        self._properties = properties or {}
        self._is_recording = False
        self.wanted = Wanted()

    def restore(self) -> Wanted:
        """What the last `commit` wrote, or an empty state; a damaged file is moved aside, loudly.

        Does not change `wanted`: that is for whoever finds the archives still there.
        """
        if self._file is None:
            return Wanted()
        return self._file.read(load) or Wanted()

    def commit(self, wanted: Wanted) -> None:
        """Make `wanted` the state. Blocks for a disk flush, if there is news for the next start.

        Raises:
            StateNotSaved: it could not be written; the old state stays.
        """
        durable = wanted.durable()
        is_news = durable != self._saved
        if self._file is not None and is_news:
            try:
                self._file.write(dump(durable))
            except OSError as error:
                raise StateNotSaved(
                    f"The change was not made, because it could not be saved: {error}."
                ) from error
        self._saved = durable
        self.wanted = wanted
        if self._is_recording and is_news:
            self.record("snapshot")

    def record(self, kind: Kind) -> None:
        """Write the state in TorchServe's form, too. Blocks for a disk flush."""
        self._is_recording = True
        if self._snapshots is None:
            return
        try:
            versions = versions_of(self.wanted.durable())
            write_snapshot(self._snapshots, kind, self._properties, versions, disk=self._disk)
        except OSError as error:
            _log.warning("no snapshot in TorchServe's form could be written: %s", error)
