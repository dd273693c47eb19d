"""Bytes of a worker channel to frames and back. Pure: nothing is read or written here.

    frame = header (16 bytes, little endian) + meta (msgpack) + buffers (raw)
    header = kind u8, format u8, 2 bytes zero, meta length u32, buffers length u64

A decoder is fed whatever arrived and yields whole frames; a peer that breaks the format or
exceeds the limit gets a `FrameError`, after which the channel must be closed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from marserve.workers.messages import FrameKind

HEADER = struct.Struct("<BBHIQ")
FORMAT = 1
_KINDS = {int(kind): kind for kind in FrameKind}


class FrameError(Exception):
    """The peer sent bytes that are no frame."""


class Frame(NamedTuple):
    """One whole frame; `buffers` are all raw buffers in a row, cut apart with sizes from `meta`."""

    kind: FrameKind
    meta: bytes
    buffers: memoryview


def encode(kind: FrameKind, meta: bytes, buffers: Sequence[bytes] = ()) -> bytes:
    """The bytes of one frame."""
    size = sum(map(len, buffers))
    return b"".join((HEADER.pack(kind, FORMAT, 0, len(meta), size), meta, *buffers))


class Decoder:
    """Bytes in, frames out, in order. One per channel."""

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._pending = bytearray()
        self._needed = HEADER.size

    @property
    def missing_bytes(self) -> int:
        """How many more bytes are needed before the next frame can be complete (at least 1)."""
        return max(1, self._needed - len(self._pending))

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Frame]:
        """Every frame that is complete now.

        Raises:
            FrameError: unknown kind or format, or a frame over the limit.
        """
        self._pending += data
        while len(self._pending) >= self._needed:
            frame = self._next()
            if frame is None:
                return
            yield frame

    def _next(self) -> Frame | None:
        kind, fmt, zero, meta_size, buffers_size = HEADER.unpack_from(self._pending)
        if kind not in _KINDS or fmt != FORMAT or zero != 0:
            raise FrameError(f"not a frame: kind {kind}, format {fmt}")
        total = HEADER.size + meta_size + buffers_size
        if total > self._max_frame_bytes:
            raise FrameError(f"a frame of {total} bytes is over the limit {self._max_frame_bytes}")
        if len(self._pending) < total:
            self._needed = total
            return None
        if len(self._pending) == total:
            taken, self._pending = self._pending, bytearray()
        else:
            taken = self._pending[:total]
            del self._pending[:total]
        self._needed = HEADER.size
        meta_end = HEADER.size + meta_size
        return Frame(
            _KINDS[kind], bytes(taken[HEADER.size : meta_end]), memoryview(taken)[meta_end:]
        )
