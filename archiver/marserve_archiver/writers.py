"""Writes a collection in each format, so that the same files always give the same bytes.

Times, owners, permissions and order are fixed. Files are streamed; a file that changes while it
is read is an error, never a torn copy.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from marserve_archiver.collect import Collection, Source
from marserve_archiver.disk import sync_folder
from marserve_archiver.errors import InputInvalid
from marserve_archiver.manifest import MANIFEST_NAME, dump
from marserve_archiver.members import DEFAULT_LIMITS, GIB, MIB

OnProgress = Callable[[int, int], None]

ALIGNMENT_BYTES: Final = 4096
_PIECE_BYTES: Final = MIB
_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)
_TAR_TIME_S: Final = 315_532_800  # the same moment
_FILE_MODE: Final = 0o644
_ZIP_UNIX: Final = 3
# The extra field that Android's zipalign uses for this: the alignment, then padding.
_ALIGNMENT_FIELD: Final = 0xD935
_LOCAL_HEADER_BYTES: Final = 30
_ZIP64_FIELD_BYTES: Final = 20
# zipfile decides by the size times 1.05 whether a member needs ZIP64 fields, which moves its data;
# deciding ourselves, well below that, keeps the place of the data known
_ZIP64_FROM_BYTES: Final = GIB


class Progress:
    """Counts the bytes packed so far."""

    def __init__(self, total_bytes: int, on_progress: OnProgress) -> None:
        self._total_bytes = total_bytes
        self._done_bytes = 0
        self._on_progress = on_progress

    def add(self, size_bytes: int) -> None:
        """Some more bytes are packed."""
        self._done_bytes += size_bytes
        self._on_progress(self._done_bytes, self._total_bytes)


def write_zip(
    collection: Collection, file: BinaryIO, progress: Progress, *, is_stored: bool
) -> None:
    """Writes a zip file: weights stored at page boundaries, other files deflated."""
    manifest = (MANIFEST_NAME, dump(collection.manifest))
    write_zip_members(manifest, collection.sources, file, progress, is_stored=is_stored)


def write_zip_members(
    manifest: tuple[str, bytes],
    sources: Iterable[Source],
    file: BinaryIO,
    progress: Progress,
    *,
    is_stored: bool = False,
) -> None:
    """Writes a zip file that begins with this manifest (its name and its bytes)."""
    with zipfile.ZipFile(file, "w") as archive:
        name, content = manifest
        archive.writestr(_zip_entry(name, is_packed=not is_stored), content)
        for source in sources:
            is_packed = not is_stored and not source.is_weights and _is_worth_packing(source)
            entry = _zip_entry(source.member, is_packed=is_packed)
            entry.file_size = source.size_bytes
            is_large = source.size_bytes >= _ZIP64_FROM_BYTES
            if source.is_weights:
                entry.extra = _aligning_field(file.tell(), entry.filename, is_large=is_large)
            with archive.open(entry, "w", force_zip64=is_large) as member:
                for piece in _pieces(source, progress):
                    member.write(piece)
            # the padding belongs before the data; the directory does not need a second copy
            entry.extra = b""


def write_tgz(collection: Collection, file: BinaryIO, progress: Progress) -> None:
    """Writes a gzipped tar file with everything below one directory named like the model."""
    top = collection.manifest.model_name
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        content = dump(collection.manifest)
        archive.addfile(_tar_entry(f"{top}/{MANIFEST_NAME}", len(content)), io.BytesIO(content))
        for source in collection.sources:
            entry = _tar_entry(f"{top}/{source.member}", source.size_bytes)
            pieces = _pieces(source, progress)
            archive.addfile(entry, cast(BinaryIO, _PieceReader(pieces)))
            for _ in pieces:  # reaching the end is what tells that the file did not grow
                pass


def write_folder(collection: Collection, folder: Path, progress: Progress) -> None:
    """Writes plain files into an empty folder."""
    manifest = folder / MANIFEST_NAME
    manifest.parent.mkdir()
    manifest.write_bytes(dump(collection.manifest))
    for source in collection.sources:
        path = folder / source.member
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for piece in _pieces(source, progress):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(folder)


def _zip_entry(name: str, *, is_packed: bool) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _ZIP_TIME)
    entry.create_system = _ZIP_UNIX
    entry.external_attr = (stat.S_IFREG | _FILE_MODE) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED if is_packed else zipfile.ZIP_STORED
    return entry


def _aligning_field(header_offset: int, name: str, *, is_large: bool) -> bytes:
    """An extra field as long as it takes to make the data begin at a page boundary."""
    before = header_offset + _LOCAL_HEADER_BYTES + len(name.encode())
    before += _ZIP64_FIELD_BYTES if is_large else 0
    shortest = struct.calcsize("<HHH")
    padding = -(before + shortest) % ALIGNMENT_BYTES
    return struct.pack("<HHH", _ALIGNMENT_FIELD, 2 + padding, ALIGNMENT_BYTES) + bytes(padding)


def _tar_entry(name: str, size_bytes: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size_bytes
    entry.mode = _FILE_MODE
    entry.mtime = _TAR_TIME_S
    return entry


def _is_worth_packing(source: Source) -> bool:
    """False for a file that shrinks so far that a reader must take it for a bomb.

    Only files beyond the slack can, so only they are compressed twice.
    """
    if source.size_bytes <= DEFAULT_LIMITS.ratio_slack_bytes:
        return True
    packer = zlib.compressobj()
    packed_bytes = sum(len(packer.compress(piece)) for piece in _pieces(source, None))
    packed_bytes += len(packer.flush())
    return source.size_bytes <= DEFAULT_LIMITS.inflated_bytes(packed_bytes)


def _pieces(source: Source, progress: Progress | None) -> Iterator[bytes]:
    """A file's content, which must be as long as it was when it was collected."""
    size_bytes = 0
    with source.path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            size_bytes += len(piece)
            if size_bytes > source.size_bytes:
                break
            yield piece
            if progress is not None:
                progress.add(len(piece))
    if size_bytes != source.size_bytes:
        raise InputInvalid(
            "input-invalid", f"{source.path} was changed while it was packed; pack again."
        )


class _PieceReader(io.RawIOBase):
    """Pieces as a file, for `tarfile`, which reads just as much as the header says."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._ready = memoryview(b"")

    def read(self, size_bytes: int = -1) -> bytes:
        wanted = bytearray()
        while size_bytes < 0 or len(wanted) < size_bytes:
            if not self._ready:
                self._ready = memoryview(next(self._pieces, b""))
            if not self._ready:
                break
            rest = len(self._ready) if size_bytes < 0 else size_bytes - len(wanted)
            wanted += self._ready[:rest]
            self._ready = self._ready[rest:]
        return bytes(wanted)
