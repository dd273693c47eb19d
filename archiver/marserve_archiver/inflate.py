"""The bytes of one zip member, piece by piece.

Counts what really comes out, never trusts what was declared, and keeps no more than one piece in
memory. A member is whole only when its stream ends where its header says, with its checksum.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from marserve_archiver.errors import Malformed
from marserve_archiver.members import KIB, MIB, Member

PIECE_BYTES: Final = 256 * KIB
_INFLATED_PIECE_BYTES: Final = MIB
# One Deflate64 symbol of 18 bits may stand for 65,538 bytes and the decoder takes no output limit:
# 512 bytes of input are at most 15 MiB of output.
_DEFLATE64_PIECE_BYTES: Final = 512


def member_pieces(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """Yields the content of a member; what was yielded counts only if the iterator ends normally.

    Raises:
        Malformed: the data are damaged, longer or shorter than declared, or the checksum is wrong.
    """
    if member.is_directory and member.packed_bytes == 0:
        return  # whatever its method: not even an empty stream
    decode = _DECODERS[member.method]
    size_bytes = crc32 = 0
    for piece in decode(file, member):
        size_bytes += len(piece)
        if size_bytes > member.size_bytes:
            break
        crc32 = zlib.crc32(piece, crc32)
        yield piece
    if size_bytes != member.size_bytes:
        raise Malformed(
            "bad-size", f"The member {member.name!r} is not as long as the directory says."
        )
    if crc32 != member.crc32:
        raise Malformed("bad-checksum", f"The member {member.name!r} is damaged: wrong checksum.")


def _stored(file: BinaryIO, member: Member) -> Iterator[bytes]:
    return _packed(file, member, PIECE_BYTES)


def _deflated(file: BinaryIO, member: Member) -> Iterator[bytes]:
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for packed in _packed(file, member, PIECE_BYTES):
            if decoder.eof:
                raise _damaged(member)
            yield from _inflated(decoder, packed)
    except zlib.error as error:
        raise _damaged(member) from error
    if not decoder.eof or decoder.unused_data:
        raise _damaged(member)


def _inflated(decoder: zlib._Decompress, packed: bytes) -> Iterator[bytes]:
    """All that these packed bytes give, in pieces of bounded size."""
    while True:
        piece = decoder.decompress(packed, _INFLATED_PIECE_BYTES)
        packed = decoder.unconsumed_tail
        if piece:
            yield piece
        if not packed and len(piece) < _INFLATED_PIECE_BYTES:
            return


def _deflate64(file: BinaryIO, member: Member) -> Iterator[bytes]:
    # imported here because it patches the zipfile module, and few archives need it
    from zipfile_deflate64.deflate64 import Deflate64

    decoder = Deflate64()
    try:
        for packed in _deflate64_input(file, member):
            if decoder.eof:
                raise _damaged(member)
            yield decoder.decompress(packed)
    except ValueError as error:
        raise _damaged(member) from error
    if not decoder.eof:
        raise _damaged(member)


def _deflate64_input(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """Small pieces, and single bytes at the end: the decoder does not say where its stream ended,
    so bytes hidden behind it show only in a piece of their own.
    """
    remaining = member.packed_bytes
    for packed in _packed(file, member, PIECE_BYTES):
        at = 0
        while at < len(packed):
            size_bytes = min(_DEFLATE64_PIECE_BYTES, remaining - _DEFLATE64_PIECE_BYTES)
            piece = packed[at : at + max(1, size_bytes)]
            at += len(piece)
            remaining -= len(piece)
            yield piece


def _packed(file: BinaryIO, member: Member, piece_bytes: int) -> Iterator[bytes]:
    # seeks for each piece, so that two members may be read in turns
    offset = member.offset_bytes or 0
    remaining = member.packed_bytes
    while remaining:
        file.seek(offset)
        piece = file.read(min(piece_bytes, remaining))
        if not piece:
            raise Malformed("truncated", f"The archive ends inside the member {member.name!r}.")
        offset += len(piece)
        remaining -= len(piece)
        yield piece


def _damaged(member: Member) -> Malformed:
    return Malformed("bad-data", f"The member {member.name!r} is damaged and cannot be inflated.")


_DECODERS: Final[dict[str, Callable[[BinaryIO, Member], Iterator[bytes]]]] = {
    "stored": _stored,
    "deflated": _deflated,
    "deflate64": _deflate64,
}
