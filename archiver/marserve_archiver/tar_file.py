"""The members of a gzipped tar file, in one pass from front to back.

Reads plain, pax and GNU headers for files and directories and refuses every other type. Names
come out as `members.py` wants them: without a leading `./` and without the one top directory
that packers put around a model.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

from marserve_archiver.errors import Malformed, TooLarge, Unsafe
from marserve_archiver.gunzip import GzipStream
from marserve_archiver.members import KIB, Limits, Member, name_problem

_BLOCK: Final = 512
_HEADER: Final = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_MAX_EXTENDED_BYTES: Final = 64 * KIB
_MAX_EXTENDED: Final = 8
"""Extended headers before one member."""
_FILES: Final = (b"0", b"\0", b"7")
_UNUSED_NUMBERS: Final = {2: "owner", 3: "group", 5: "time", 13: "device", 14: "device"}
"""Numbers that mean nothing here; but at a damaged one other readers take the archive to end."""
_DIRECTORY, _HARD_LINK, _SYMLINK, _GNU_LINK_NAME = b"5", b"1", b"2", b"K"
_GNU_NAME, _PAX, _PAX_GLOBAL = b"L", b"x", b"g"


class TarFile:
    """A gzipped tar file behind one open descriptor. Inflates it once to list its members."""

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self.kind: Final = "tgz"
        self._file = file
        self._limits = limits
        scanned = tuple(self._scan())
        # one item for each header; None for a header that is no member of the model
        self._listed = _without_top(scanned)
        self.members = tuple(member for member in self._listed if member is not None)

    def pieces(self, member: Member) -> Iterator[bytes]:
        """The content of one member; reads the archive from its front."""
        for found, pieces in self.walk():
            if found == member:
                yield from pieces
                return

    def walk(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Each member with its content, in the order of the archive; take them in turn.

        Raises:
            Malformed: the content is not what the first pass saw.
        """
        stream = GzipStream(self._file, self._limits)
        headers = _headers(stream, self._limits)
        for member in self._listed:
            header = next(headers, None)
            if header is None or (member is not None and member.size_bytes != header.size_bytes):
                raise _changed()
            pieces = _content(stream, header, member)
            if member is not None:
                yield member, pieces
            for _ in pieces:  # what the caller left unread
                pass

    def close(self) -> None:
        """Closes the descriptor."""
        self._file.close()

    def _scan(self) -> Iterator[Member]:
        stream = GzipStream(self._file, self._limits)
        for header in _headers(stream, self._limits):
            crc32 = 0
            for piece in _content(stream, header, None):
                crc32 = zlib.crc32(piece, crc32)
            yield Member(header.name, header.is_directory, header.size_bytes, 0, "gzip", crc32)


@dataclass(frozen=True, slots=True)
class _Header:
    """One member's header, after the extended headers before it were applied."""

    name: str
    is_directory: bool
    size_bytes: int


@dataclass(slots=True)
class _Extended:
    """What extended headers said about the member that follows."""

    name: str | None = None
    size_bytes: int | None = None

    def set_name(self, name: str) -> None:
        if self.name is not None:
            raise Malformed("header-mismatch", f"The member {name!r} has two names.")
        self.name = name


def _headers(stream: GzipStream, limits: Limits) -> Iterator[_Header]:
    """Each member's header. The caller takes the content off the stream before the next one."""
    extended = _Extended()
    count = extended_count = 0
    while any(block := stream.read(_BLOCK)):
        fields = _checked_fields(block)
        kind, size_bytes = fields[7], _number(fields[4], "size")
        if kind in (_GNU_NAME, _PAX, _PAX_GLOBAL):
            extended_count += 1
            if extended_count > _MAX_EXTENDED:  # endless headers cost time and are no members
                raise Malformed("bad-structure", "A member has too many extended headers.")
            _extend(extended, kind, _extended_content(stream, size_bytes))
            continue
        yield _header(fields, extended, size_bytes)
        extended = _Extended()
        extended_count = 0
        count += 1
        if count > limits.max_members:
            raise TooLarge(
                "too-many-members", f"The archive has more than {limits.max_members} members."
            )
    if any(any(piece) for piece in stream.rest()):
        raise Malformed("trailing-data", "Data follow the end of the archive.")


def _checked_fields(block: bytes) -> tuple[bytes, ...]:
    fields: tuple[bytes, ...] = _HEADER.unpack(block)
    # the checksum is taken with its own eight bytes as spaces
    if _number(fields[6], "checksum") != sum(block[:148]) + sum(block[156:]) + 8 * ord(" "):
        raise Malformed("bad-structure", "A header of the archive is damaged.")
    for index, what in _UNUSED_NUMBERS.items():
        if fields[index][0] != 0xFF:  # a negative number, as times before 1970 are
            _number(fields[index], what)
    return fields


def _header(fields: tuple[bytes, ...], extended: _Extended, size_bytes: int) -> _Header:
    name = extended.name or _ustar_name(fields)
    kind = fields[7]
    # before there was a type for directories, a slash at the end made one
    is_directory = kind == _DIRECTORY or (kind == b"\0" and name.endswith("/"))
    if kind in (_HARD_LINK, _SYMLINK, _GNU_LINK_NAME):
        raise Unsafe("link", f"The member {name!r} is a link; pack the file itself.")
    if not is_directory and kind not in _FILES:
        raise Unsafe("special-file", f"The member {name!r} is neither a file nor a directory.")
    # directories inherit setgid on shared disks, so there it says nothing; modes are not applied
    if _number(fields[1], "mode") & 0o7000 and not is_directory:
        raise Unsafe("special-mode", f"The member {name!r} has setuid, setgid or sticky mode.")
    if extended.size_bytes is not None:
        size_bytes = extended.size_bytes
    if is_directory and size_bytes:
        raise Malformed("header-mismatch", f"The directory {name!r} has content.")
    plain = name.removeprefix("./") if name != "." else ""
    if not is_directory and not plain:
        raise Unsafe("unsafe-name", "A file of the archive has no name.")
    return _Header(plain.removesuffix("/") if is_directory else plain, is_directory, size_bytes)


def _ustar_name(fields: tuple[bytes, ...]) -> str:
    name = _text(fields[0].split(b"\0", 1)[0])
    # GNU's own format keeps other things where POSIX keeps the prefix
    prefix = _text(fields[15].split(b"\0", 1)[0]) if fields[9] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _extended_content(stream: GzipStream, size_bytes: int) -> bytes:
    if size_bytes > _MAX_EXTENDED_BYTES:
        raise TooLarge("name-too-long", "An extended header of the archive is larger than 64 KiB.")
    content = stream.read(size_bytes)
    stream.read(_padding(size_bytes))
    return content


def _extend(extended: _Extended, kind: bytes, content: bytes) -> None:
    if kind == _GNU_NAME:
        extended.set_name(_text(content.removesuffix(b"\0")))
        return
    for key, value in _pax_records(content):
        if key.startswith("GNU.sparse."):
            raise Unsafe("special-file", "The archive has a sparse member; pack without --sparse.")
        if kind == _PAX_GLOBAL and key in ("path", "size"):
            raise Malformed(
                "header-mismatch", "One header gives all members the same name or size."
            )
        if key == "path":
            extended.set_name(_text(value))
        elif key == "size":
            if extended.size_bytes is not None or not value.isdigit() or len(value) > 18:
                raise Malformed("bad-structure", "The size in a header of the archive is damaged.")
            extended.size_bytes = int(value)


def _pax_records(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Records of the form `length key=value newline`, where length counts the whole record."""
    damaged = Malformed("bad-structure", "An extended header of the archive is damaged.")
    while content:
        length_text, space, _ = content.partition(b" ")
        if not space or not length_text.isdigit() or len(length_text) > 6:
            raise damaged
        record, content = content[: int(length_text)], content[int(length_text) :]
        key, equals, value = record[len(length_text) + 1 :].partition(b"=")
        if len(record) != int(length_text) or not equals or not value.endswith(b"\n"):
            raise damaged
        yield _text(key), value[:-1]


def _content(stream: GzipStream, header: _Header, member: Member | None) -> Iterator[bytes]:
    """A member's content, with the padding behind it; compared with the first pass, if given."""
    crc32 = 0
    for piece in stream.pieces(header.size_bytes):
        crc32 = zlib.crc32(piece, crc32)
        yield piece
    stream.read(_padding(header.size_bytes))
    if member is not None and crc32 != member.crc32:
        raise _changed()


def _without_top(scanned: tuple[Member, ...]) -> tuple[Member | None, ...]:
    """Names below the top directory, where all members share one; `./` itself is no member."""
    named = [member for member in scanned if member.name]
    tops = {member.name.split("/", 1)[0] for member in named}
    top = next(iter(tops), "")
    is_wrapped = (
        len(tops) == 1
        and top != "MAR-INF"
        # a name that will be refused must stay visible
        and name_problem(top) is None
        and all(member.is_directory or "/" in member.name for member in named)
    )
    if not is_wrapped:
        return tuple(member if member.name else None for member in scanned)
    return tuple(
        replace(member, name=member.name.removeprefix(f"{top}/"))
        if member.name.startswith(f"{top}/")
        else None
        for member in scanned
    )


def _number(field: bytes, what: str) -> int:
    """An octal number, or a binary one where the first byte says so."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if field[0] > 0x80 or any(digit not in b"01234567" for digit in digits):
        raise Malformed("bad-structure", f"The {what} in a header of the archive is damaged.")
    return int(digits or b"0", 8)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Unsafe("unsafe-name", f"The member name {raw[:60]!r} is not valid UTF-8.") from error


def _padding(size_bytes: int) -> int:
    return -size_bytes % _BLOCK


def _changed() -> Malformed:
    return Malformed("changed", "The archive was changed while it was read; try again.")
