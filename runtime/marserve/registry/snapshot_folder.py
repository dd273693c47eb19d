"""The folder of TorchServe's snapshots, where we put ours: written whole, or not at all.

What the files say is decided in `torchserve_snapshot.py`. Files of others stay as they are.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from marserve.config_snapshot import SnapshotVersion, is_by_marserve, snapshot_time
from marserve.registry.torchserve_snapshot import document
from marserve_archiver.disk import DISK, Disk, sync_folder, write_new_file

Kind = Literal["startup", "snapshot", "shutdown"]

KEPT: Final = 50
_HEAD_BYTES: Final = 256
_PARTIAL: Final = ".partial"
_FORMAT: Final = "%Y%m%d%H%M%S%f"


def write_snapshot(
    directory: Path,
    kind: Kind,
    properties: Mapping[str, str],
    models: Iterable[SnapshotVersion],
    now: datetime | None = None,
    disk: Disk = DISK,
) -> Path:
    """Write one snapshot file, so that it would survive a power cut. Blocks for a disk flush.

    The file is for its owner only, because `properties` may hold a password. Of our own snapshots
    the newest `KEPT` stay. For one caller at a time.

    Args:
        directory: `config` below the log directory; made if it is missing.
        kind: what the server was doing.
        properties: `Config.properties`.
        models: what `versions_of` says of the wanted state.
        now: the moment it speaks of, with a time zone.
        disk: takes it.

    Raises:
        OSError: it could not be written; nothing has changed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    moment = _after_the_newest(directory, now or datetime.now().astimezone())
    name = f"{moment.strftime(_FORMAT)[:17]}-{kind}.cfg"
    created_ms = int(moment.timestamp() * 1000)
    date = moment.strftime("%a %b %d %H:%M:%S %Z %Y")
    path = directory / name
    _write(path, document(name, created_ms, date, properties, models), disk)
    _prune(directory)
    return path


def _after_the_newest(directory: Path, now: datetime) -> datetime:
    """`now`, or the next millisecond that makes the new file the newest: clocks are set back."""
    newest = max((snapshot_time(path.name) for path in directory.iterdir()), default="")
    if now.strftime(_FORMAT)[:17] > newest:
        return now
    with suppress(ValueError):  # a name may have seventeen digits that are no moment
        last = datetime.strptime(f"{newest}000", _FORMAT).replace(tzinfo=now.tzinfo)
        return last + timedelta(milliseconds=1)
    return now


def _write(path: Path, text: str, disk: Disk) -> None:
    partial = path.with_name(f"{path.name.partition('-')[0]}{secrets.token_hex(4)}{_PARTIAL}")
    write_new_file(disk, partial, text.encode("ascii"))
    try:
        disk.rename(partial, path)
    except OSError:
        with suppress(OSError):
            disk.remove(partial)
        raise
    sync_folder(path.parent, disk)


def _prune(directory: Path) -> None:
    for partial in directory.glob(f"[0-9]*{_PARTIAL}"):  # of processes that ended meanwhile
        with suppress(OSError):
            partial.unlink()
    snapshots = [path for path in directory.iterdir() if snapshot_time(path.name)]
    for path in sorted(snapshots, reverse=True)[KEPT:]:
        with suppress(OSError):  # the next one tries again
            if _is_ours(path):
                path.unlink()


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return is_by_marserve(file.read(_HEAD_BYTES).decode("latin-1"))
