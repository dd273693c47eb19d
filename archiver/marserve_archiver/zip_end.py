"""The end of a zip file: the records that say where its directory lies.

There has to be exactly one answer. A second end record, a ZIP64 record that is not where its
locator points, or bytes that belong to nothing would let two readers see two archives.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from marserve_archiver.errors import Malformed, TooLarge, Unsupported
from marserve_archiver.members import MIB, Limits

_END: Final = struct.Struct("<4s4H2LH")
_LOCATOR: Final = struct.Struct("<4sLQL")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_END_MARK: Final = b"PK\x05\x06"
_LOCATOR_MARK: Final = b"PK\x06\x07"
_END64_MARK: Final = b"PK\x06\x06"
_LOCAL_MARK: Final = b"PK\x03\x04"
_FULL16: Final = 0xFFFF
_FULL32: Final = 0xFFFFFFFF
_MAX_DIRECTORY_BYTES: Final = 32 * MIB


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the central directory lies."""

    count: int
    offset: int
    size_bytes: int


def find_directory(file: BinaryIO, limits: Limits) -> Directory:
    """Where the central directory lies.

    Raises:
        Malformed, Unsupported, TooLarge: there is none, more than one, or an unreasonable one.
    """
    file_bytes = file.seek(0, os.SEEK_END)
    tail_offset = max(0, file_bytes - _END.size - _FULL16)
    tail = read_at(file, tail_offset, file_bytes - tail_offset)
    at = tail.rfind(_END_MARK)
    if at < 0:
        raise _no_end_record(file)
    _check_only_end(tail, at)
    _, disk, start_disk, count_here, count, size_bytes, offset, _ = _END.unpack_from(tail, at)
    end_offset = tail_offset + at
    directory = Directory(count, offset, size_bytes)
    if at >= _LOCATOR.size and tail[at - _LOCATOR.size : at].startswith(_LOCATOR_MARK):
        directory, end_offset = _zip64_directory(file, end_offset, directory)
    elif disk or start_disk or count_here != count:
        raise Unsupported("multi-disk", "The archive is one part of several; join the parts first.")
    _check_directory(directory, end_offset, limits)
    return directory


def _no_end_record(file: BinaryIO) -> Malformed:
    if read_at(file, 0, 4, exact=False) == _LOCAL_MARK:
        return Malformed("truncated", "The archive is cut short: it has no end record.")
    return Malformed("not-an-archive", "The file is not a zip archive.")


def _check_only_end(tail: bytes, at: int) -> None:
    """The last end record must reach the end of the file, and no earlier one may do so too."""
    if _end_of(tail, at) == len(tail) and not any(
        _end_of(tail, other) == len(tail) for other in _positions(tail[:at], _END_MARK)
    ):
        return
    if any(_end_of(tail, other) == len(tail) for other in _positions(tail[:at], _END_MARK)):
        raise Malformed(
            "two-directories", "The archive has two end records, each with its own directory."
        )
    if _end_of(tail, at) < len(tail):
        raise Malformed("trailing-data", "Bytes follow the end of the archive.")
    raise Malformed("truncated", "The archive is cut short inside its end record.")


def _end_of(tail: bytes, at: int) -> int:
    if len(tail) - at < _END.size:
        return len(tail) + 1
    return at + _END.size + int.from_bytes(tail[at + 20 : at + 22], "little")


def _positions(data: bytes, mark: bytes) -> Iterator[int]:
    at = data.find(mark)
    while at >= 0:
        yield at
        at = data.find(mark, at + 1)


def _zip64_directory(file: BinaryIO, end_offset: int, short: Directory) -> tuple[Directory, int]:
    """The directory as the ZIP64 records tell it, and where those records begin."""
    locator_offset = end_offset - _LOCATOR.size
    _, disk, offset64, disks = _LOCATOR.unpack(read_at(file, locator_offset, _LOCATOR.size))
    if disk or disks > 1:
        raise Unsupported("multi-disk", "The archive is one part of several; join the parts first.")
    # the record has to stand directly before its locator: readers that search for it elsewhere
    # and readers that follow the locator would otherwise see two directories
    if offset64 + _END64.size > locator_offset:
        raise Malformed("bad-structure", "The ZIP64 end record is not where its locator points.")
    fields = _END64.unpack(read_at(file, offset64, _END64.size))
    mark, record_bytes, _, _, this_disk, start_disk, count_here, count, size_bytes, offset = fields
    if mark != _END64_MARK or offset64 + 12 + record_bytes != locator_offset:
        raise Malformed("bad-structure", "The ZIP64 end record is not where its locator points.")
    if this_disk or start_disk or count_here != count:
        raise Unsupported("multi-disk", "The archive is one part of several; join the parts first.")
    pairs = (
        (short.count, _FULL16, count),
        (short.size_bytes, _FULL32, size_bytes),
        (short.offset, _FULL32, offset),
    )
    if any(small not in (full, large) for small, full, large in pairs):
        raise Malformed("two-directories", "The two end records describe different directories.")
    return Directory(count, offset, size_bytes), offset64


def _check_directory(directory: Directory, end_offset: int, limits: Limits) -> None:
    if directory.count > limits.max_members:
        raise TooLarge(
            "too-many-members",
            f"The archive has {directory.count} members, more than {limits.max_members}.",
        )
    if directory.size_bytes > _MAX_DIRECTORY_BYTES:
        raise TooLarge("too-large", "The archive's directory is larger than 32 MiB.")
    directory_end = directory.offset + directory.size_bytes
    if directory_end > end_offset:
        raise Malformed("truncated", "The archive's directory would reach beyond its end record.")
    if directory_end < end_offset:
        raise Malformed(
            "leading-data", "Bytes stand before the archive, or between its directory and its end."
        )


def read_at(file: BinaryIO, offset: int, size_bytes: int, *, exact: bool = True) -> bytes:
    """`size_bytes` bytes from `offset` on; fewer only when `exact` is off."""
    file.seek(offset)
    content = file.read(size_bytes)
    if exact and len(content) != size_bytes:
        raise Malformed("truncated", "The archive is cut short.")
    return content
