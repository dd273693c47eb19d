"""Puts the members of an archive on disk: all of them, or nothing.

Everything is written into a private folder beside the target, which gets the target's name only
when it is complete and durable. The folder is locked for as long as its writer lives, so that
what a dead writer left behind can be told from work in progress.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from marserve_archiver.disk import DISK, Disk, sync_folder, write_all
from marserve_archiver.errors import ArchiveExists, NoSpace
from marserve_archiver.members import MIB, Member

PARTIAL_SUFFIX: Final = ".partial"
_SPACE_CHECK_BYTES: Final = 64 * MIB

Content = Iterable[tuple[Member, Iterator[bytes]]]


@contextmanager
def partial_folder(target: Path, disk: Disk = DISK) -> Iterator[tuple[Path, int]]:
    """A private, locked folder beside `target`: its path and an open descriptor.

    What the block leaves in it becomes `target` when the block ends well; otherwise it is removed.

    Raises:
        ArchiveExists: something that is not an empty folder has the target's name.
    """
    path, descriptor = _locked_folder(target, disk)
    try:
        yield path, descriptor
        _rename(path, target, disk)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    finally:
        disk.close(descriptor)


def write_members(root: int, content: Content, total_bytes: int, disk: Disk = DISK) -> None:
    """Writes every member below the open folder `root`, and waits until it is on the disk.

    Members must have passed `member_problems`. Files are created, never opened: 0600, in
    folders of 0700.

    Raises:
        NoSpace: the disk has no room for `total_bytes`, with 5 % to spare.
        Malformed: raised by the content itself.
    """
    space = _Space(root, total_bytes, disk)
    folders = {""}
    try:
        for member, pieces in content:
            folder = member.name if member.is_directory else member.name.rpartition("/")[0]
            with _opened_folder(root, folder, folders, disk) as descriptor:
                if member.is_directory:
                    for _ in pieces:  # none, which is for the content to make sure of
                        pass
                else:
                    _write_file(descriptor, member.name.rpartition("/")[2], pieces, space, disk)
        for folder in folders:
            with _opened_folder(root, folder, folders, disk) as descriptor:
                disk.sync(descriptor)
    except OSError as error:
        raise space.translated(error) from error


def remove_stale_partials(folder: Path) -> tuple[str, ...]:
    """Removes what writers that are dead left in `folder`; the names of what was removed."""
    removed: list[str] = []
    for path in sorted(folder.glob(f"*{PARTIAL_SUFFIX}")):
        try:
            descriptor = DISK.open_folder(path)
        except OSError:
            continue  # no folder, or just renamed by its writer
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # its writer lives
        else:
            if path.exists():  # else renamed by its writer since it was opened
                shutil.rmtree(path, ignore_errors=True)
                removed.append(path.name)
        finally:
            os.close(descriptor)
    return tuple(removed)


class _Space:
    """The room on the disk: asked for before the first byte and again every 64 MiB."""

    def __init__(self, descriptor: int, needed_bytes: int, disk: Disk) -> None:
        self._descriptor = descriptor
        self._disk = disk
        self._total_bytes = needed_bytes
        self._needed_bytes = needed_bytes
        self._unchecked_bytes = 0
        self._check()

    def take(self, size_bytes: int) -> None:
        """Counts bytes about to be written."""
        self._needed_bytes -= size_bytes
        self._unchecked_bytes += size_bytes
        if self._unchecked_bytes >= _SPACE_CHECK_BYTES:
            self._unchecked_bytes = 0
            self._check()

    def translated(self, error: OSError) -> Exception:
        """The same error; a full disk in our words, with what would have been needed."""
        return _translated(error, self._total_bytes)

    def _check(self) -> None:
        if self._disk.free_bytes(self._descriptor) < self._needed_bytes * 1.05:
            raise _no_space(self._total_bytes)


def _locked_folder(target: Path, disk: Disk) -> tuple[Path, int]:
    while True:
        path = target.with_name(f"{target.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
        try:
            disk.make_folder(path, 0o700)
        except OSError as error:
            raise _translated(error) from error
        # until it is locked, a sweeper may take the folder for stale: then another one is made
        try:
            descriptor = disk.open_folder(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            with suppress(OSError):
                path.rmdir()
            raise _translated(error) from error
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():
            return path, descriptor
        disk.close(descriptor)


def _rename(path: Path, target: Path, disk: Disk) -> None:
    try:
        disk.rename(path, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise ArchiveExists("exists", f"{target} exists already.") from error
        raise _translated(error) from error
    # should this fail, the folder is whole all the same, and others may use it already
    try:
        sync_folder(target.parent, disk)
    except OSError as error:
        raise _translated(error) from error


@contextmanager
def _opened_folder(root: int, name: str, known: set[str], disk: Disk) -> Iterator[int]:
    """A descriptor of a folder below `root`, created where it is missing, link by link."""
    descriptor = os.dup(root)
    try:
        path = ""
        for segment in filter(None, name.split("/")):
            path = f"{path}/{segment}" if path else segment
            if path not in known:
                disk.make_folder(segment, 0o700, at=descriptor)
                known.add(path)
            below = disk.open_folder(segment, at=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _write_file(folder: int, name: str, pieces: Iterator[bytes], space: _Space, disk: Disk) -> None:
    descriptor = disk.create(name, 0o600, at=folder)
    try:
        for piece in pieces:
            space.take(len(piece))
            write_all(disk, descriptor, piece)
        disk.sync(descriptor)
    finally:
        disk.close(descriptor)


def _translated(error: OSError, needed_bytes: int | None = None) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        needs = "" if needed_bytes is None else f" The archive needs {needed_bytes} bytes."
        return NoSpace("no-space", f"The disk is full.{needs}", needed_bytes)
    return error


def _no_space(needed_bytes: int) -> NoSpace:
    return NoSpace(
        "no-space",
        f"The disk has no room for the {needed_bytes} bytes of the archive and 5 % to spare.",
        needed_bytes,
    )
