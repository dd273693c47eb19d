"""The server's end of the socket to one worker: frames out, frames in.

Knows bytes and frames, not what they mean. A peer that breaks the format loses the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import msgspec

from marserve.direct_read import DirectRead
from marserve.workers.frames import Decoder, Frame, FrameError, encode_pieces
from marserve.workers.messages import FrameKind

_DRAIN_S = 1.0


class Channel(asyncio.Protocol):
    """One connection; `on_frame` gets every frame. `on_lost` is called once at its end: with what
    the peer did wrong, or None when it merely hung up.
    """

    def __init__(
        self,
        max_frame_bytes: int,
        on_frame: Callable[[Frame], None],
        on_lost: Callable[[str | None], None],
    ) -> None:
        self._decoder = Decoder(max_frame_bytes)
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._ended = asyncio.Event()
        self.has_unsent = False
        """Whether the end of the last frame has surely not left, so that nobody can act on it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._deliver(self._decoder.feed(data))
        if self._decoder.room is not None and self._transport is not None:
            DirectRead(self._transport, self, self._room, self._filled)

    def _deliver(self, frames: Iterable[Frame]) -> None:
        try:
            for frame in frames:
                if self._ended.is_set():  # a frame of the same read was the reason to close
                    return
                self._on_frame(frame)
        except (FrameError, msgspec.DecodeError, UnicodeDecodeError) as error:
            self.close(f"the worker broke the protocol: {error}")

    def _room(self) -> memoryview:
        room = self._decoder.room
        assert room is not None
        return room

    def _filled(self, count: int) -> bool:
        frame = self._decoder.filled(count)
        if frame is not None:
            self._deliver((frame,))
        return frame is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._end(None)

    def pause_writing(self) -> None:
        """Called by the loop: the peer does not read, and much of the last frame is still here."""
        self.has_unsent = True

    def resume_writing(self) -> None:
        """Called by the loop: little of it is."""
        self.has_unsent = False

    def send(self, kind: FrameKind, meta: object, buffers: Sequence[bytes] = ()) -> None:
        """Queue one frame. After the end of the connection this does nothing."""
        if self._transport is None:
            self.has_unsent = True
            return
        data = encode_pieces(kind, msgspec.msgpack.encode(meta), buffers)
        if isinstance(data, bytes):
            self._transport.write(data)
        else:
            self._transport.writelines(data)

    def close(self, reason: str | None) -> None:
        """Drop the connection now; `on_lost` gets `reason`."""
        if self._transport is not None:
            self._transport.abort()
        self._end(reason)

    async def drained(self) -> None:
        """Wait until what a dead peer had still sent is read.

        Bounded: a process that the handler forked may hold the other end open.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), _DRAIN_S)

    def _end(self, reason: str | None) -> None:
        self._transport = None
        if not self._ended.is_set():
            self._ended.set()
            self._on_lost(reason)
