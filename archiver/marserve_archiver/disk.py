"""Every call that changes a disk for good, in one class: a test can let any one of them fail.

What is written here survives a power cut when three things have happened: the file was synced, it
got its name, and the folder that holds the name was synced. Calls block.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Disk:
    """The operating system's calls, as they are. `at`: the open folder that a name is meant in."""

    def make_folder(self, path: str | Path, mode: int = 0o777, at: int | None = None) -> None:
        """A new, empty folder."""
        os.mkdir(path, mode, dir_fd=at)

    def open_folder(self, path: str | Path, at: int | None = None) -> int:
        """A descriptor of a folder, which is not reached through a link of this name."""
        return os.open(path, _OPEN_FOLDER, dir_fd=at)

    def create(self, path: str | Path, mode: int, at: int | None = None) -> int:
        """A descriptor to write to a new file; one that is there is never opened."""
        return os.open(path, _CREATE_FILE, mode, dir_fd=at)

    def write(self, descriptor: int, piece: bytes | memoryview) -> int:
        """How many bytes were taken: perhaps fewer than there are."""
        return os.write(descriptor, piece)

    def sync(self, descriptor: int) -> None:
        """Waits until the content of a file, or the names in a folder, are on the disk."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Gives the descriptor back."""
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Gives a file or folder another name, in one step; a file there is replaced."""
        os.rename(source, target)  # noqa: PTH104  all calls of one kind in one place

    def link(self, source: Path, target: Path) -> None:
        """Gives a file a second name, which must be free."""
        os.link(source, target, follow_symlinks=False)

    def remove(self, path: Path) -> None:
        """Takes a name from a file."""
        os.unlink(path)  # noqa: PTH108  the same

    def exists(self, path: Path) -> bool:
        """Whether something has this name."""
        return os.path.lexists(path)

    def read(self, path: Path) -> bytes:
        """The whole content of a file."""
        return path.read_bytes()

    def free_bytes(self, descriptor: int) -> int:
        """How much room the disk of an open folder has for us."""
        disk = os.fstatvfs(descriptor)
        return disk.f_bavail * disk.f_frsize


DISK: Final = Disk()
"""The real one."""


def write_all(disk: Disk, descriptor: int, piece: bytes) -> None:
    """Writes all of a piece, however little the system takes at a time."""
    rest = memoryview(piece)
    while rest:
        rest = rest[disk.write(descriptor, rest) :]


def write_new_file(disk: Disk, path: Path, content: bytes, mode: int = 0o600) -> None:
    """A new file with its content on the disk; its name is not, before `sync_folder`.

    Raises:
        OSError: it could not be written; nothing of it is left.
    """
    descriptor = disk.create(path, mode)
    try:
        try:
            write_all(disk, descriptor, content)
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
    except OSError:
        with suppress(OSError):
            disk.remove(path)
        raise


def sync_folder(path: Path, disk: Disk = DISK) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = disk.open_folder(path)
    try:
        disk.sync(descriptor)
    finally:
        disk.close(descriptor)


def make_folders(path: Path, disk: Disk = DISK) -> None:
    """The folder and those above it, all of their names on the disk.

    Those that are there are synced too: whoever made them may not have waited for it.

    Raises:
        OSError: it could not be made, or not be made durable.
    """
    for folder in (*reversed(path.parents), path):
        if not disk.exists(folder):
            with suppress(FileExistsError):  # somebody else made it meanwhile
                disk.make_folder(folder)
    for folder in path.parents:
        try:
            sync_folder(folder, disk)
        except OSError as error:
            # folders of the system, which we may not open or which are on no disk
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL):
                raise
