"""Downloaded archives in the model store: how they get their names, and which ones they are.

An archive is written under a hidden name, and gets its own only when it is complete, verified and
on the disk. The hidden file is locked for as long as its writer lives, so that what a dead writer
left behind can be told from work in progress. A second hidden file beside the archive says where
it came from; what an operator has put into the store has none, and is never removed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final

from marserve.errors import ArchiveExistsInStore
from marserve_archiver.disk import DISK, Disk, sync_folder, write_new_file

_PARTIAL: Final = ".download."
_ORIGIN: Final = ".origin."
_NEW_ORIGIN: Final = ".new-origin."
MAX_NAME_BYTES: Final = 255 - len(_NEW_ORIGIN)
_MAX_ORIGIN_BYTES: Final = 1 << 16
_OPEN_PARTIAL: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an archive in the store came from, and by what it is recognised."""

    url: str
    is_signed: bool
    size_bytes: int
    modified_ns: int


class Partial:
    """An archive that is being written."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file


class Downloads:
    """The downloaded archives in one folder. Several threads and servers may share it."""

    def __init__(self, root: Path, disk: Disk = DISK) -> None:
        self._root = root
        self._disk = disk

    def remove_stale(self) -> None:
        """Remove what writers that are dead have left; what cannot be removed stays."""
        with suppress(OSError):  # a store that is not there, or not ours to clean
            for path in self._root.glob(f"{_PARTIAL}*"):
                _remove_if_stale(path)

    def origin(self, name: str) -> Origin | None:
        """Where the archive of this name came from; None when it was not downloaded."""
        origin = self._noted(name)
        if origin is None:
            return None
        try:
            status = (self._root / name).stat()
        except OSError:
            return None
        # a file that somebody has replaced since is theirs
        is_it = (status.st_size, status.st_mtime_ns) == (origin.size_bytes, origin.modified_ns)
        return origin if is_it else None

    def noted(self, name: str, url: str) -> Origin | None:
        """What was noted when `url` was last fetched to this name; the archive may be gone."""
        origin = self._noted(name)
        return origin if origin is not None and origin.url == url else None

    @contextmanager
    def writing(self, name: str) -> Iterator[Partial]:
        """A hidden, locked, empty file; what `publish` has not given its name is removed.

        Raises:
            ArchiveExistsInStore: the name is taken, or another download of it is under way.
            OSError: the store cannot be written.
        """
        path = self._root / f"{_PARTIAL}{name}"
        descriptor = _locked(path, name)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            try:
                if os.path.lexists(self._root / name):
                    raise _exists(name)
                file.truncate(0)
                yield Partial(path, file)
            finally:
                path.unlink(missing_ok=True)

    def publish(self, partial: Partial, name: str, url: str, is_signed: bool) -> Path:
        """Give a complete archive its name, durably; nothing that has this name is replaced.

        Raises:
            ArchiveExistsInStore: the name was taken meanwhile.
            OSError: the store cannot be written.
        """
        self._disk.sync(partial.file.fileno())
        status = os.fstat(partial.file.fileno())
        path = self._root / name
        try:
            # noted first: an archive whose origin is lost would stay for ever and block its own url
            self._note(name, Origin(url, is_signed, status.st_size, status.st_mtime_ns))
            self._link(partial.path, path)
        except OSError as error:
            (self._root / f"{_ORIGIN}{name}").unlink(missing_ok=True)
            if isinstance(error, FileExistsError):
                raise _exists(name) from error
            raise
        try:
            sync_folder(self._root, self._disk)
        except OSError:
            self.forget(name, keep=False)  # it is refused now, so it must not be there later
            raise
        return path

    def forget(self, name: str, keep: bool) -> None:
        """Let the archive of this name be the operator's (`keep`), or remove it."""
        if not keep:
            (self._root / name).unlink(missing_ok=True)
        (self._root / f"{_ORIGIN}{name}").unlink(missing_ok=True)

    def _noted(self, name: str) -> Origin | None:
        try:
            with (self._root / f"{_ORIGIN}{name}").open("rb") as file:
                return Origin(**json.loads(file.read(_MAX_ORIGIN_BYTES)))
        except (OSError, ValueError, TypeError):
            return None

    def _note(self, name: str, origin: Origin) -> None:
        new = self._root / f"{_NEW_ORIGIN}{name}"
        new.unlink(missing_ok=True)  # of a process that ended meanwhile
        # 0600: the url of a presigned request is a key
        write_new_file(self._disk, new, json.dumps(asdict(origin)).encode(), 0o600)
        try:
            self._disk.rename(new, self._root / f"{_ORIGIN}{name}")
        except OSError:
            new.unlink(missing_ok=True)
            raise
        sync_folder(self._root, self._disk)  # else a power cut might keep the archive alone

    def _link(self, partial: Path, path: Path) -> None:
        try:
            self._disk.link(partial, path)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            # a file system without hard links; nobody else downloads to this name meanwhile
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
            self._disk.rename(partial, path)


def _locked(path: Path, name: str) -> int:
    while True:
        descriptor = os.open(path, _OPEN_PARTIAL, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same(descriptor, path):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise ArchiveExistsInStore(
                f"Model file already exists {name}: another registration is fetching it just now."
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # removed by whoever had it until now


def _remove_if_stale(path: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same(descriptor, path):
                path.unlink()
        finally:
            os.close(descriptor)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _exists(name: str) -> ArchiveExistsInStore:
    return ArchiveExistsInStore(f"Model file already exists {name}")
