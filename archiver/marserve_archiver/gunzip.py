"""A gzip file as a stream of bounded pieces.

Counts what comes out and stops a bomb while it inflates: gzip declares no size that could be
checked beforehand.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final

from marserve_archiver.errors import Malformed, TooLarge
from marserve_archiver.members import KIB, MIB, Limits

GZIP_MARK: Final = b"\x1f\x8b"
_INFLATED_PIECE_BYTES: Final = MIB
# what follows the end of a part is copied, so a piece of very many parts must not be long
_PACKED_PIECE_BYTES: Final = 32 * KIB
_MAX_STREAMS: Final = 50_000
_WITH_GZIP_HEADER: Final = 16 + zlib.MAX_WBITS


class GzipStream:
    """Reads one gzip file from front to back; several streams may share its descriptor."""

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self._allowed_bytes = limits.total_bytes(file.seek(0, os.SEEK_END))
        self._decoder: zlib._Decompress | None = None
        self._packed = b""  # read from the file, not yet inflated
        self._offset = 0  # of the file: everything before it was read
        self._ready = memoryview(b"")  # inflated, not yet handed out
        self._inflated_bytes = 0
        self._streams = 0

    def read(self, size_bytes: int) -> bytes:
        """Exactly this many bytes.

        Raises:
            Malformed, TooLarge: the stream is damaged, cut short or a bomb.
        """
        return b"".join(self.pieces(size_bytes))

    def pieces(self, size_bytes: int) -> Iterator[bytes]:
        """Exactly this many bytes, as they come."""
        while size_bytes:
            if not self._ready:
                self._ready = memoryview(self._inflate())
            if not self._ready:
                raise Malformed("truncated", "The archive is cut short.")
            piece, self._ready = self._ready[:size_bytes], self._ready[size_bytes:]
            size_bytes -= len(piece)
            yield bytes(piece)

    def rest(self) -> Iterator[bytes]:
        """Everything up to the end of the stream."""
        while piece := bytes(self._ready) or self._inflate():
            self._ready = memoryview(b"")
            yield piece

    def _inflate(self) -> bytes:
        """The next piece; empty at the end of the file."""
        while self._decoder is not None or self._next_stream():
            assert self._decoder is not None
            try:
                piece = self._decoder.decompress(self._packed, _INFLATED_PIECE_BYTES)
            except zlib.error as error:
                raise Malformed("bad-data", "The archive is damaged and cannot be inflated.") from (
                    error
                )
            self._packed = self._decoder.unconsumed_tail
            if self._decoder.eof:
                self._packed = self._decoder.unused_data
                self._decoder = None
            elif not piece and not self._packed and not self._read_more():
                raise Malformed("truncated", "The archive is cut short.")
            if piece:
                self._count(piece)
                return piece
        return b""

    def _next_stream(self) -> bool:
        """Begins the next of several concatenated gzip streams, which together are one file."""
        is_first = self._offset == 0
        while len(self._packed) < len(GZIP_MARK) and self._read_more():
            pass
        if not self._packed:
            return False
        if not self._packed.startswith(GZIP_MARK):
            if is_first:
                raise Malformed("not-an-archive", "The file is not a gzip file.")
            raise Malformed("trailing-data", "Bytes follow the end of the archive.")
        self._streams += 1
        if self._streams > _MAX_STREAMS:
            raise TooLarge("too-many-members", f"The file has more than {_MAX_STREAMS} gzip parts.")
        self._decoder = zlib.decompressobj(_WITH_GZIP_HEADER)
        return True

    def _read_more(self) -> bool:
        self._file.seek(self._offset)
        piece = self._file.read(_PACKED_PIECE_BYTES)
        self._offset += len(piece)
        self._packed += piece
        return bool(piece)

    def _count(self, piece: bytes) -> None:
        self._inflated_bytes += len(piece)
        if self._inflated_bytes > self._allowed_bytes:
            raise TooLarge(
                "too-large", f"The archive inflates to more than {self._allowed_bytes} bytes."
            )
        taken_bytes = self._offset - len(self._packed)
        if self._inflated_bytes > self._limits.inflated_bytes(taken_bytes):
            raise TooLarge(
                "bomb",
                f"The archive inflates to more than {self._limits.max_ratio} times its size.",
            )
