"""A file whose content is settled by one pass: what is read later is what was hashed, or an error.

The pass keeps the state of the hash at every mebibyte. A piece that is read later goes through
the hash from the state before it to the state after it; whoever writes to the file meanwhile, in
whatever way, would have to find a collision of SHA-256 to go unnoticed.
"""

from __future__ import annotations

import hashlib
import io
import os
from typing import BinaryIO, Final

from marserve_archiver.errors import Malformed
from marserve_archiver.members import MIB

_PIECE_BYTES: Final = MIB


class SealedFile(io.RawIOBase):
    """Reads an open file; owns and closes it. For one thread at a time."""

    def __init__(self, file: BinaryIO) -> None:
        """Reads the whole file once."""
        super().__init__()
        self._file = file
        self._states = [hashlib.sha256()]
        self.size_bytes = 0
        file.seek(0)
        while piece := _read(file, _PIECE_BYTES):
            state = self._states[-1].copy()
            state.update(piece)
            self._states.append(state)
            self.size_bytes += len(piece)
        self.digest = self._states[-1].hexdigest()
        """sha256 of the content, in hex."""
        self._position = 0
        self._index = -1
        self._piece = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a byte, counted as `os.lseek` does."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size_bytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        """The byte that is read next."""
        return self._position

    def read(self, size_bytes: int | None = -1) -> bytes:
        """As many bytes as there are, up to `size_bytes`.

        Raises:
            Malformed: the file is not what it was when it was hashed.
        """
        left = max(0, self.size_bytes - self._position)
        wanted = left if size_bytes is None or size_bytes < 0 else min(size_bytes, left)
        parts = []
        while wanted:
            index, skip = divmod(self._position, _PIECE_BYTES)
            part = self._checked_piece(index)[skip : skip + wanted]
            parts.append(part)
            self._position += len(part)
            wanted -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()

    def _checked_piece(self, index: int) -> bytes:
        if index == self._index:
            return self._piece
        self._file.seek(index * _PIECE_BYTES)
        wanted = min(_PIECE_BYTES, self.size_bytes - index * _PIECE_BYTES)
        piece = _read(self._file, wanted)
        state = self._states[index].copy()
        state.update(piece)
        if len(piece) != wanted or state.digest() != self._states[index + 1].digest():
            raise Malformed("changed", "The archive was changed while it was read; try again.")
        self._index, self._piece = index, piece
        return piece


def _read(file: BinaryIO, size_bytes: int) -> bytes:
    """So many bytes; fewer only at the end."""
    parts = []
    while size_bytes and (part := file.read(size_bytes)):
        parts.append(part)
        size_bytes -= len(part)
    return b"".join(parts)
