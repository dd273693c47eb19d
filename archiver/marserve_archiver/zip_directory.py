"""The directory of a zip file: what it lists, and whether the local headers agree.

Reads headers only and inflates nothing. Every byte of the file has to belong to exactly one
header, one member or the directory, because whatever two readers can see differently is a way
to show one of them another archive.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from marserve_archiver.errors import Malformed, Unsafe, Unsupported
from marserve_archiver.members import Limits, Member, Method
from marserve_archiver.zip_end import Directory, find_directory, read_at

_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_CENTRAL_MARK: Final = b"PK\x01\x02"
_LOCAL_MARK: Final = b"PK\x03\x04"
_DESCRIPTOR_MARK: Final = b"PK\x07\x08"

_METHODS: Final[dict[int, Method]] = {0: "stored", 8: "deflated", 9: "deflate64"}
_NEWEST_FORMAT: Final = 63  # version 6.3 of the format, the newest there is
_ENCRYPTED: Final = 0x0001 | 0x0040 | 0x2000
_DESCRIPTOR: Final = 0x0008  # checksum and sizes follow the data
_PATCH: Final = 0x0020
_UTF8: Final = 0x0800
# flags in which both headers must agree; the others are hints to the compressor
_MEANINGFUL: Final = _ENCRYPTED | _DESCRIPTOR | _PATCH | _UTF8

_FULL16: Final = 0xFFFF
_FULL32: Final = 0xFFFFFFFF
_EXTRA_ZIP64: Final = 0x0001
_EXTRA_NAME: Final = 0x7075
_MAX_EXTRA_FIELDS: Final = 64
_DOS_VOLUME, _DOS_DIRECTORY, _DOS_REPARSE = 0x08, 0x10, 0x400


@dataclass(frozen=True, slots=True)
class _Row:
    """One entry of the central directory, before its local header was looked at."""

    raw_name: bytes
    name: str
    is_directory: bool
    flags: int
    method: int
    crc32: int
    packed_bytes: int
    size_bytes: int
    header_offset: int


def read_directory(file: BinaryIO, limits: Limits) -> tuple[Member, ...]:
    """The members of a zip file, in the order of their bytes.

    Raises:
        Malformed, Unsupported, Unsafe, TooLarge: the structure is not that of one honest zip file.
            Names and declared sizes are returned as they stand, for `members.py` to judge.
    """
    directory = find_directory(file, limits)
    rows = sorted(_rows(file, directory), key=lambda row: row.header_offset)
    return tuple(_checked_against_local_headers(file, rows, directory.offset))


# --- the central directory -------------------------------------------------------------------


def _rows(file: BinaryIO, directory: Directory) -> Iterator[_Row]:
    content = read_at(file, directory.offset, directory.size_bytes)
    at = 0
    for _ in range(directory.count):
        if at + _CENTRAL.size > len(content) or content[at : at + 4] != _CENTRAL_MARK:
            raise Malformed("bad-structure", "The archive's directory is damaged.")
        fields = _CENTRAL.unpack_from(content, at)
        name_bytes, extra_bytes, comment_bytes = fields[10:13]
        at += _CENTRAL.size
        name = content[at : at + name_bytes]
        extra = content[at + name_bytes : at + name_bytes + extra_bytes]
        at += name_bytes + extra_bytes + comment_bytes
        if at > len(content):
            raise Malformed("bad-structure", "The archive's directory is damaged.")
        yield _row(fields, name, extra)
    if at != len(content):
        raise Malformed("bad-structure", "The archive's directory lists more than it counts.")


def _row(fields: tuple[int, ...], raw_name: bytes, extra: bytes) -> _Row:
    _, _, needed, flags, method, _, _, crc32, packed, size, _, _, _, disk, _, attributes, offset = (
        fields
    )
    name = _decoded_name(raw_name, flags, extra)
    if flags & _ENCRYPTED:
        raise Unsupported("encrypted", f"The member {name!r} is encrypted; pack without password.")
    if flags & _PATCH or needed & 0xFF > _NEWEST_FORMAT or method not in _METHODS:
        raise Unsupported(
            "unsupported-method",
            f"The member {name!r} is packed with method {method}; use store, deflate or deflate64.",
        )
    if disk not in (0, _FULL16):
        raise Unsupported("multi-disk", "The archive is one part of several; join the parts first.")
    size, packed, offset = _wide(extra, (size, packed, offset), name)
    is_directory = name.endswith("/")
    _check_type(name, attributes, is_directory=is_directory)
    # packers that deflate everything give a directory the two bytes of an empty stream
    if is_directory and (size or packed > 2):
        raise Malformed("header-mismatch", f"The directory {name!r} has content.")
    if method == 0 and size != packed:
        raise Malformed("header-mismatch", f"The stored member {name!r} has two sizes.")
    return _Row(
        raw_name,
        name.removesuffix("/"),
        is_directory,
        flags,
        method,
        crc32,
        packed,
        size,
        offset,
    )


def _decoded_name(raw_name: bytes, flags: int, extra: bytes) -> str:
    if b"\0" in raw_name:
        raise Unsafe("unsafe-name", f"The member name {raw_name[:60]!r} holds a NUL byte.")
    try:
        name = raw_name.decode()
    except UnicodeDecodeError as error:
        if flags & _UTF8:
            raise Unsafe(
                "unsafe-name", f"The member name {raw_name[:60]!r} is not valid UTF-8."
            ) from error
        # the format's own default; macOS writes UTF-8 here without saying so, hence the order
        name = raw_name.decode("cp437")
    for kind, value in _extra_fields(extra):
        if kind == _EXTRA_NAME and value[5:] != name.encode():
            raise Malformed("header-mismatch", f"The member {name!r} has a second, other name.")
    return name


def _check_type(name: str, attributes: int, *, is_directory: bool) -> None:
    """Regular files and directories only, by what either half of the attributes says."""
    mode = attributes >> 16
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK or attributes & _DOS_REPARSE:
        raise Unsafe("link", f"The member {name!r} is a link; pack the file itself.")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or attributes & _DOS_VOLUME:
        raise Unsafe("special-file", f"The member {name!r} is neither a file nor a directory.")
    # directories inherit setgid on shared disks, so there it says nothing; modes are not applied
    if mode & 0o7000 and not is_directory:
        raise Unsafe("special-mode", f"The member {name!r} has setuid, setgid or sticky mode.")
    says_directory = kind == stat.S_IFDIR or bool(attributes & _DOS_DIRECTORY)
    if (says_directory and not is_directory) or (kind == stat.S_IFREG and is_directory):
        raise Malformed(
            "header-mismatch", f"The member {name!r} is a file by name or type, not by both."
        )


# --- the local headers -----------------------------------------------------------------------


def _checked_against_local_headers(
    file: BinaryIO, rows: list[_Row], directory_offset: int
) -> Iterator[Member]:
    expected = 0
    following = [row.header_offset for row in rows[1:]] + [directory_offset]
    for row, next_offset in zip(rows, following, strict=False):
        if row.header_offset != expected:
            raise _misplaced(row, expected)
        data_offset, described = _check_local_header(file, row)
        expected = data_offset + row.packed_bytes
        if expected > next_offset:
            raise Malformed("overlap", f"The member {row.name!r} overlaps what follows it.")
        if row.flags & _DESCRIPTOR and (expected < next_offset or not described):
            _check_descriptor(file, row, expected, next_offset)
            expected = next_offset
        yield Member(
            row.name,
            row.is_directory,
            row.size_bytes,
            row.packed_bytes,
            _METHODS[row.method],
            row.crc32,
            data_offset,
        )
    if expected != directory_offset:
        raise Malformed("unlisted-data", "Bytes before the directory belong to no listed member.")


def _misplaced(row: _Row, expected: int) -> Malformed:
    if row.header_offset < expected:
        return Malformed("overlap", f"The member {row.name!r} overlaps the one before it.")
    if expected == 0:
        return Malformed("leading-data", "Bytes stand before the first member.")
    return Malformed("unlisted-data", f"Bytes before {row.name!r} belong to no listed member.")


def _check_local_header(file: BinaryIO, row: _Row) -> tuple[int, bool]:
    """Where the data begin, and whether this header already tells checksum and sizes."""
    fields = _LOCAL.unpack(read_at(file, row.header_offset, _LOCAL.size))
    mark, _, flags, method, _, _, crc32, packed, size, name_bytes, extra_bytes = fields
    if mark != _LOCAL_MARK:
        raise Malformed("bad-structure", f"The member {row.name!r} has no header of its own.")
    names_offset = row.header_offset + _LOCAL.size
    variable = read_at(file, names_offset, name_bytes + extra_bytes)
    raw_name, extra = variable[:name_bytes], variable[name_bytes:]
    if raw_name != row.raw_name or method != row.method or (flags ^ row.flags) & _MEANINGFUL:
        raise Malformed(
            "header-mismatch",
            f"The directory and the header of {row.name!r} tell different things.",
        )
    _decoded_name(raw_name, flags, extra)  # a second, other name may stand here alone
    size, packed, _ = _wide(extra, (size, packed, 0), row.name)
    told, listed = (crc32, packed, size), (row.crc32, row.packed_bytes, row.size_bytes)
    described = told == listed
    # a streaming packer leaves at zero what it did not know yet when it wrote the header
    is_open = row.flags & _DESCRIPTOR and all(
        one in (0, other) for one, other in zip(told, listed, strict=True)
    )
    if not described and not is_open:
        raise Malformed(
            "header-mismatch", f"The directory and the header of {row.name!r} tell different sizes."
        )
    return names_offset + name_bytes + extra_bytes, described


def _check_descriptor(file: BinaryIO, row: _Row, offset: int, next_offset: int) -> None:
    """The record behind the data: with or without its mark, with short or long sizes."""
    content = read_at(file, offset, min(next_offset - offset, 32))
    figures = content.removeprefix(_DESCRIPTOR_MARK) if len(content) in (16, 24) else content
    layout = {12: "<LLL", 20: "<LQQ"}.get(len(figures))
    if layout is None:
        raise Malformed("unlisted-data", f"Bytes after {row.name!r} belong to no listed member.")
    if struct.unpack(layout, figures) != (row.crc32, row.packed_bytes, row.size_bytes):
        raise Malformed(
            "header-mismatch", f"The directory and the data descriptor of {row.name!r} differ."
        )


# --- small pieces ----------------------------------------------------------------------------


def _extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    seen: set[int] = set()
    for _ in range(_MAX_EXTRA_FIELDS):
        if len(extra) - at < 4:  # fewer than four bytes are padding
            return
        kind, length = struct.unpack_from("<HH", extra, at)
        at += 4
        if at + length > len(extra):
            raise Malformed("bad-structure", "An extra field is longer than its header says.")
        if kind in seen and kind in (_EXTRA_ZIP64, _EXTRA_NAME):
            raise Malformed("bad-structure", "A member has the same extra field twice.")
        seen.add(kind)
        yield kind, extra[at : at + length]
        at += length
    raise Malformed("bad-structure", f"A member has more than {_MAX_EXTRA_FIELDS} extra fields.")


def _wide(extra: bytes, short: tuple[int, int, int], name: str) -> tuple[int, int, int]:
    """Size, packed size and offset, where a full 32-bit field means: see the ZIP64 extra field."""
    if _FULL32 not in short:
        return short
    wide = next((value for kind, value in _extra_fields(extra) if kind == _EXTRA_ZIP64), b"")
    figures = iter(struct.unpack(f"<{len(wide) // 8}Q", wide[: len(wide) // 8 * 8]))
    try:
        size, packed, offset = (next(figures) if v == _FULL32 else v for v in short)
    except (RuntimeError, ValueError) as error:
        raise Malformed("bad-structure", f"The ZIP64 sizes of {name!r} are missing.") from error
    return size, packed, offset
