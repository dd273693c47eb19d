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
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from marserve_archiver.errors import ArchiveExists, NoSpace
from marserve_archiver.members import MIB, Member

PARTIAL_SUFFIX: Final = ".partial"
_SPACE_CHECK_BYTES: Final = 64 * MIB
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_CREATE_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW

Content = Iterable[tuple[Member, Iterator[bytes]]]


@contextmanager
def partial_folder(target: Path) -> Iterator[tuple[Path, int]]:
    """A private, locked folder beside `target`: its path and an open descriptor.

    What the block leaves in it becomes `target` when the block ends well; otherwise it is removed.

    Raises:
        ArchiveExists: something that is not an empty folder has the target's name.
    """
    path, descriptor = _locked_folder(target)
    try:
        yield path, descriptor
        _rename(path, target)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    finally:
        os.close(descriptor)


def write_members(root: int, content: Content, total_bytes: int) -> None:
    """Writes every member below the open folder `root`, and waits until it is on the disk.

    Members must have passed `member_problems`. Files are created, never opened: 0600, in
    folders of 0700.

    Raises:
        NoSpace: the disk has no room for `total_bytes`, with 5 % to spare.
        Malformed: raised by the content itself.
    """
    space = _Space(root, total_bytes)
    folders = {""}
    for member, pieces in content:
        folder = member.name if member.is_directory else member.name.rpartition("/")[0]
        with _opened_folder(root, folder, folders) as descriptor:
            if member.is_directory:
                for _ in pieces:  # none, which is for the content to make sure of
                    pass
            else:
                _write_file(descriptor, member.name.rpartition("/")[2], pieces, space)
    for folder in folders:
        with _opened_folder(root, folder, folders) as descriptor:
            os.fsync(descriptor)


def remove_stale_partials(folder: Path) -> tuple[str, ...]:
    """Removes what writers that are dead left in `folder`; the names of what was removed."""
    removed: list[str] = []
    for path in sorted(folder.glob(f"*{PARTIAL_SUFFIX}")):
        try:
            descriptor = os.open(path, _OPEN_FOLDER)
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


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Space:
    """The room on the disk: asked for before the first byte and again every 64 MiB."""

    def __init__(self, descriptor: int, needed_bytes: int) -> None:
        self._descriptor = descriptor
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

    def _check(self) -> None:
        disk = os.fstatvfs(self._descriptor)
        if disk.f_bavail * disk.f_frsize < self._needed_bytes * 1.05:
            raise _no_space(self._needed_bytes)


def _locked_folder(target: Path) -> tuple[Path, int]:
    while True:
        path = target.with_name(f"{target.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
        try:
            path.mkdir(mode=0o700)
        except OSError as error:
            raise _translated(error) from error
        # until it is locked, a sweeper may take the folder for stale: then another one is made
        try:
            descriptor = os.open(path, _OPEN_FOLDER)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():
            return path, descriptor
        os.close(descriptor)


def _rename(path: Path, target: Path) -> None:
    try:
        path.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise ArchiveExists("exists", f"{target} exists already.") from error
        raise
    sync_folder(target.parent)


@contextmanager
def _opened_folder(root: int, name: str, known: set[str]) -> Iterator[int]:
    """A descriptor of a folder below `root`, created where it is missing, link by link."""
    descriptor = os.dup(root)
    try:
        path = ""
        for segment in filter(None, name.split("/")):
            path = f"{path}/{segment}" if path else segment
            if path not in known:
                os.mkdir(segment, 0o700, dir_fd=descriptor)
                known.add(path)
            below = os.open(segment, _OPEN_FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _write_file(folder: int, name: str, pieces: Iterator[bytes], space: _Space) -> None:
    descriptor = os.open(name, _CREATE_FILE, 0o600, dir_fd=folder)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        try:
            for piece in pieces:
                space.take(len(piece))
                _write_all(file.fileno(), piece)
            os.fsync(file.fileno())
        except OSError as error:
            raise _translated(error) from error


def _write_all(descriptor: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _translated(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace("no-space", "The disk is full.")
    return error


def _no_space(needed_bytes: int) -> NoSpace:
    return NoSpace(
        "no-space", f"The disk has no room for {needed_bytes / MIB:.0f} MiB and 5 % to spare."
    )
