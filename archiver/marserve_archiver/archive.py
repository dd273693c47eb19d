"""One archive, opened for reading: its manifest, its members, its digest, its content.

Opening checks everything that can be checked without inflating, and content is checked while it
is read. One descriptor stays open from first to last, so what was checked, what was hashed and
what is extracted are the same file, whatever happens to its name meanwhile.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Protocol, Self, cast

from marserve_archiver.disk import DISK, Disk
from marserve_archiver.errors import (
    ArchiveError,
    InputMissing,
    Malformed,
    TooLarge,
    Unreadable,
)
from marserve_archiver.extraction import partial_folder, write_members
from marserve_archiver.folder import Folder
from marserve_archiver.gunzip import GZIP_MARK
from marserve_archiver.inflate import member_pieces
from marserve_archiver.manifest import MANIFEST_NAME, Manifest, check_size, file_problems, parse
from marserve_archiver.members import (
    DEFAULT_LIMITS,
    MIB,
    Limits,
    Member,
    member_problems,
    size_problems,
)
from marserve_archiver.sealed_file import SealedFile
from marserve_archiver.tar_file import TarFile
from marserve_archiver.zip_directory import read_directory

Kind = Literal["zip", "tgz", "folder"]
Check = Callable[[str], None]
"""Raises an ArchiveError unless an archive with this digest may be used."""


class Container(Protocol):
    """What the three formats have in common."""

    @property
    def kind(self) -> Kind:
        """Which format this is."""
        ...

    @property
    def members(self) -> tuple[Member, ...]:
        """Files and directories, as the format lists them."""
        ...

    def pieces(self, member: Member) -> Iterator[bytes]:
        """The content of one member, checked by the time the iterator ends."""
        ...

    def walk(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Each member with its content, in the order in which they are cheapest to read."""
        ...

    def close(self) -> None:
        """Closes what is open."""
        ...


class Archive:
    """An archive that passed all checks that do not need its content. Close it, or use `with`.

    For one thread at a time.
    """

    def __init__(
        self, path: Path, container: Container, manifest: Manifest, file: _Identity | None
    ) -> None:
        self.path = path
        self.kind: Kind = container.kind
        self.manifest = manifest
        self.members = container.members
        self.folder = container.path if isinstance(container, Folder) else None
        """The folder that can be served in place, when the archive is one."""
        self._container = container
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the descriptor."""
        self._container.close()

    def sha256(self) -> str:
        """The digest of the archive's bytes; of a folder: of all names and contents, in order.

        Raises:
            ArchiveError: the archive was changed since it was opened.
        """
        if self._file is not None:
            return self._file.sha256()
        digest = hashlib.sha256()
        for member, pieces in self._container.walk():
            if member.is_directory:
                continue
            # names end with NUL and contents are announced by length, so nothing can be shifted
            digest.update(f"{member.name}\0{member.size_bytes}\0".encode())
            for piece in pieces:
                digest.update(piece)
        return digest.hexdigest()

    def read(self, member: Member | str, limit_bytes: int = 64 * MIB) -> bytes:
        """The content of one file.

        Raises:
            KeyError: there is no file of this name.
            TooLarge: it has more than `limit_bytes`.
            ArchiveError: it is damaged.
        """
        if isinstance(member, str):
            member = self._file_named(member)
        return _read(self._container, member, limit_bytes)

    def walk(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Each member with its content, in the order in which they are cheapest to read.

        A content counts only if its iterator ends without an error.
        """
        return self._container.walk()

    def extract(self, target: Path, disk: Disk = DISK) -> None:
        """Writes all members into the new folder `target`, durably; on failure writes nothing.

        Raises:
            ArchiveExists: `target` is there already.
            NoSpace: the disk is too small.
            ArchiveError: the content is damaged, or the archive was changed meanwhile.
        """
        total_bytes = sum(member.size_bytes for member in self.members)
        with partial_folder(target, disk) as (_, descriptor):
            write_members(descriptor, self._container.walk(), total_bytes, disk)
            if self._file is not None:
                self._file.check_unchanged()

    def _file_named(self, name: str) -> Member:
        for member in self.members:
            if member.name == name and not member.is_directory:
                return member
        raise KeyError(name)


def open_archive(
    path: Path, limits: Limits = DEFAULT_LIMITS, check: Check | None = None
) -> Archive:
    """Opens an archive in any format: zip (`.mar`), gzipped tar, folder.

    Args:
        path: of the archive.
        limits: what it may ask for.
        check: is called with the digest of the archive's bytes before any of them is understood,
            and raises to refuse it. What is read afterwards is what was hashed, even if somebody
            writes to the file. Not called for a folder, which has no such bytes.

    Raises:
        ArchiveError: it is missing, broken, hostile, too large, or its manifest cannot be used;
            nothing was written anywhere.
    """
    container, file = open_container(path, limits, check)
    try:
        problems = container_problems(container, file.size_bytes if file else 0, limits)
        for problem in problems:
            raise problem
        manifest = read_manifest(container, limits)
        names = {member.name for member in container.members if not member.is_directory}
        for problem in file_problems(manifest, names):
            raise problem
    except BaseException:
        container.close()
        raise
    return Archive(path, container, manifest, file)


def open_container(
    path: Path, limits: Limits, check: Check | None = None
) -> tuple[Container, _Identity | None]:
    """The archive with its structure checked, but not its names, sizes and manifest."""
    try:
        if path.is_dir():
            return Folder(path, limits), None
        if path.exists() and not path.is_file():  # opening a named pipe would wait for ever
            raise Malformed("not-an-archive", f"{path} is neither a file nor a folder.")
        opened = path.open("rb")
    except FileNotFoundError as error:
        raise InputMissing("input-missing", f"{path} does not exist.") from error
    except OSError as error:
        raise Unreadable("unreadable", f"{path} cannot be read: {error.strerror}.") from error
    file: BinaryIO = opened
    try:
        identity: _Identity = _Watched(opened)
        if check is not None:
            sealed = SealedFile(opened)
            check(sealed.digest)
            file, identity = cast(BinaryIO, sealed), _Sealed(sealed)
        file.seek(0)
        if file.read(len(GZIP_MARK)) == GZIP_MARK and path.suffix != ".mar":
            return TarFile(file, limits), identity
        return _ZipFile(file, limits), identity
    except OSError as error:
        file.close()
        raise Unreadable("unreadable", f"{path} cannot be read: {error.strerror}.") from error
    except BaseException:
        file.close()
        raise


def container_problems(
    container: Container, archive_bytes: int, limits: Limits
) -> Iterator[ArchiveError]:
    """What is wrong with names and declared sizes."""
    yield from member_problems(container.members, limits)
    if container.kind != "folder":  # a folder has its size already
        yield from size_problems(container.members, archive_bytes, limits)


def read_manifest(container: Container, limits: Limits) -> Manifest:
    """The archive's manifest; an archive without one gets the empty manifest, as in TorchServe.

    Raises:
        ManifestInvalid: it is there and cannot be used.
    """
    for member in container.members:
        if member.name == MANIFEST_NAME and not member.is_directory:
            check_size(member.size_bytes, limits)
            return parse(b"".join(container.pieces(member)), limits)
    return Manifest()


class _ZipFile:
    """A zip file behind one open descriptor."""

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self.kind: Kind = "zip"
        self._file = file
        self.members = read_directory(file, limits)

    def pieces(self, member: Member) -> Iterator[bytes]:
        return member_pieces(self._file, member)

    def walk(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        for member in self.members:
            yield member, self.pieces(member)

    def close(self) -> None:
        self._file.close()


class _Identity(Protocol):
    """The bytes of an archive, as a whole."""

    @property
    def size_bytes(self) -> int:
        """How many there are."""
        ...

    def sha256(self) -> str:
        """Their digest."""
        ...

    def check_unchanged(self) -> None:
        """Raises Malformed when they are others now."""
        ...


class _Sealed:
    """An open file of which each piece is compared with what was hashed."""

    def __init__(self, file: SealedFile) -> None:
        self._digest = file.digest
        self.size_bytes = file.size_bytes

    def sha256(self) -> str:
        return self._digest

    def check_unchanged(self) -> None:
        """Nothing to do: every read does it."""


class _Watched:
    """An open file that must not change while we look at it."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self._before = self._look()
        self.size_bytes = self._before[0]

    def sha256(self) -> str:
        self._file.seek(0)
        digest = hashlib.file_digest(self._file, "sha256")
        self.check_unchanged()
        return digest.hexdigest()

    def check_unchanged(self) -> None:
        # another file under the same name is no concern of ours; this one written to in place is
        if self._look() != self._before:
            raise Malformed("changed", "The archive was changed while it was read; try again.")

    def _look(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns


def _read(container: Container, member: Member, limit_bytes: int) -> bytes:
    if member.size_bytes > limit_bytes:
        raise TooLarge(
            "too-large",
            f"The member {member.name!r} has {member.size_bytes} bytes, more than {limit_bytes}.",
        )
    return b"".join(container.pieces(member))
