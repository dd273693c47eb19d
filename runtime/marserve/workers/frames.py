"""Bytes of a worker channel to frames and back. Pure: nothing is read or written here.

    frame = header (16 bytes, little endian) + meta (msgpack) + buffers (raw)
    header = kind u8, format u8, 2 bytes zero, meta length u32, buffers length u64

A decoder is fed whatever arrived and yields whole frames. The buffers of a large frame are received
straight into the memory where they stay. A peer that breaks the format or exceeds the limit gets a
`FrameError`, after which the channel must be closed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from marserve.workers.messages import FrameKind

HEADER = struct.Struct("<BBHIQ")
FORMAT = 1
LARGE_BYTES = 1 << 16
"""From this size on a copy costs more than the system call that it saves."""
_KINDS = {int(kind): kind for kind in FrameKind}

Buffer = bytes | memoryview


class FrameError(Exception):
    """The peer sent bytes that are no frame."""


class Frame(NamedTuple):
    """One whole frame; `buffers` are all raw buffers in a row, cut apart with sizes from `meta`."""

    kind: FrameKind
    meta: bytes
    buffers: memoryview


def encode(kind: FrameKind, meta: bytes, buffers: Sequence[Buffer] = ()) -> bytes:
    """The bytes of one frame."""
    size = sum(map(len, buffers))
    return b"".join((HEADER.pack(kind, FORMAT, 0, len(meta), size), meta, *buffers))


PONG = encode(FrameKind.PONG, b"")
"""What a worker says when it is asked whether it is there."""


def encode_pieces(
    kind: FrameKind, meta: bytes, buffers: Sequence[Buffer] = ()
) -> bytes | list[Buffer]:
    """The bytes of one frame; of a large one pieces, to be sent in order.

    Large buffers are pieces of their own, as they are; what lies between them is joined.
    """
    size = sum(map(len, buffers))
    head = HEADER.pack(kind, FORMAT, 0, len(meta), size)
    if size < LARGE_BYTES:
        return b"".join((head, meta, *buffers))
    pieces: list[Buffer] = []
    small: list[Buffer] = [head, meta]
    for buffer in buffers:
        if len(buffer) < LARGE_BYTES:
            small.append(buffer)
            continue
        if small:
            pieces.append(b"".join(small))
            small = []
        pieces.append(buffer)
    if small:
        pieces.append(b"".join(small))
    return pieces


class _Large(NamedTuple):
    """A frame whose buffers are still coming in."""

    kind: FrameKind
    meta: bytes
    buffers: memoryview


class Decoder:
    """Bytes in, frames out, in order. One per channel.

    While `room` is there, what comes next belongs into it: receive it there and say so by `filled`.
    Feeding it is right as well, and costs a copy.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._pending = bytearray()
        self._needed = HEADER.size
        self._large: _Large | None = None
        self.room: memoryview | None = None
        """Where the rest of a large frame belongs."""

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Frame]:
        """Every frame that is complete now.

        Raises:
            FrameError: unknown kind or format, or a frame over the limit.
        """
        if self.room is not None:
            count = min(len(self.room), len(data))
            self.room[:count] = data[:count]
            data = data[count:]
            frame = self.filled(count)
            if frame is not None:
                yield frame
        self._pending += data
        while len(self._pending) >= self._needed:
            frame = self._next()
            if frame is None:
                return
            yield frame

    def filled(self, count: int) -> Frame | None:
        """`count` more bytes of `room` are there; the frame, if it is whole."""
        large, room = self._large, self.room
        assert large is not None
        assert room is not None
        if count < len(room):
            self.room = room[count:]
            return None
        self._large = self.room = None
        return Frame(*large)

    def _next(self) -> Frame | None:
        kind, fmt, zero, meta_size, buffers_size = HEADER.unpack_from(self._pending)
        if kind not in _KINDS or fmt != FORMAT or zero != 0:
            raise FrameError(f"not a frame: kind {kind}, format {fmt}")
        total = HEADER.size + meta_size + buffers_size
        if total > self._max_frame_bytes:
            raise FrameError(f"a frame of {total} bytes is over the limit {self._max_frame_bytes}")
        if len(self._pending) < total:
            self._await(_KINDS[kind], HEADER.size + meta_size, buffers_size)
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

    def _await(self, kind: FrameKind, meta_end: int, buffers_size: int) -> None:
        """The frame that has begun is not whole yet."""
        if buffers_size < LARGE_BYTES:
            self._needed = meta_end + buffers_size
        elif len(self._pending) < meta_end:
            self._needed = meta_end
        else:
            begun, self._pending = self._pending, bytearray()
            self._needed = HEADER.size
            buffers = memoryview(bytearray(buffers_size))
            count = len(begun) - meta_end
            buffers[:count] = memoryview(begun)[meta_end:]
            self._large = _Large(kind, bytes(begun[HEADER.size : meta_end]), buffers)
            self.room = buffers[count:]
