"""What goes out on one HTTP/2 connection: frames in order, DATA as far as the client's windows let.

Most answers are small and fit: they leave in one write. What does not fit waits with its stream,
and streams take turns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from marserve.protocols import h2_frames as h2
from marserve.protocols.h2_frames import ConnectionBroken, ErrorCode
from marserve.servers.h2_stream import H2Stream
from marserve.servers.h2_turn import Turn

_MAX_PIECE_BYTES: Final = 256 * 1024
"""Of one DATA frame, whatever a client would take: others want their turn."""
_LARGE_BYTES: Final = 4096
"""From here on, the system is given pieces rather than a copy of them."""


class Output:
    """One direction of one connection.

    Args:
        turn: says when what is written leaves.
        on_ended: is told of each stream whose end is sent.
    """

    def __init__(self, turn: Turn, on_ended: Callable[[H2Stream], None]) -> None:
        self._turn = turn
        self._on_ended = on_ended
        self._held: list[bytes | memoryview] = []
        self._transport: asyncio.Transport | None = None
        self._window = h2.DEFAULT_WINDOW
        self.initial_window = h2.DEFAULT_WINDOW
        """What the client takes on a new stream."""
        self._max_piece = h2.DEFAULT_FRAME_SIZE
        self._sendable: dict[H2Stream, None] = {}
        self._is_paused = False
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._has_large = False

    def attach(self, transport: asyncio.Transport) -> None:
        """There is a client."""
        self._transport = transport

    def detach(self) -> None:
        """There is none any more: what is written from now on is dropped."""
        self._transport = None
        self._sendable.clear()
        self.resume()

    # --- sending ----------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send whole frames that need no window."""
        if not self._held:
            self._turn.add(self)
        self._held.append(data)

    def flush(self) -> None:
        """Give the transport what was written."""
        held, self._held = self._held, []
        transport = self._transport
        if transport is None or not held:
            return
        if len(held) == 1:
            transport.write(held[0])
        elif self._has_large:
            transport.writelines(held)
        else:
            transport.write(b"".join(held))
        self._has_large = False

    def takes(self, stream: H2Stream, size: int) -> bool:
        """Whether so much DATA may leave at once in one frame; it is counted as sent then."""
        if size > stream.window or size > self._window or size > self._max_piece:
            return False
        stream.window -= size
        self._window -= size
        return True

    def last(self, stream: H2Stream, frames: bytes, is_alone: bool) -> None:
        """Send a whole answer, whose DATA was found to fit.

        `is_alone`: no other stream could add to it in this turn, so it leaves at once.
        """
        if is_alone and not self._held and self._transport is not None:
            self._transport.write(frames)
        else:
            self.write(frames)
        self._on_ended(stream)

    def begin(self, stream: H2Stream, block: bytes) -> None:
        """Send the head of an answer."""
        stream.has_begun = True
        self.write(h2.frame(h2.HEADERS, h2.END_HEADERS, stream.stream_id, block))

    def data(self, stream: H2Stream, data: bytes) -> None:
        """Send DATA, now or when the client takes it."""
        if stream.waiting is None:
            stream.waiting = deque()
        stream.waiting.append(memoryview(data))
        self._sendable[stream] = None
        self._pump()

    def end(self, stream: H2Stream, block: bytes) -> None:
        """End the stream with these headers after what waits."""
        stream.trailers = block
        if not stream.waiting:
            self._send_trailers(stream)

    def drop(self, stream: H2Stream) -> None:
        """The stream is over; nothing of what waits is sent."""
        self._sendable.pop(stream, None)
        stream.waiting = None
        _wake(stream)

    async def drained(self, stream: H2Stream) -> None:
        """Wait until the client has taken what was sent, or until the stream is over."""
        while not stream.is_over and (stream.waiting or self._is_paused):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if stream.waiting:
                stream.waiter = waiter
            else:
                self._waiters.append(waiter)
            await waiter

    def pause(self) -> None:
        """The client does not read."""
        self._is_paused = True

    def resume(self) -> None:
        """It reads again."""
        self._is_paused = False
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    # --- what the client takes --------------------------------------------------------------------

    def widen(self, increment: int) -> None:
        """The client takes more on the connection.

        Raises:
            ConnectionBroken: more than a window can be.
        """
        self._window += increment
        if self._window > h2.MAX_WINDOW:
            raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, "The window is too large.")
        if self._sendable:
            self._pump()

    def widen_stream(self, stream: H2Stream, increment: int) -> bool:
        """The client takes more on a stream. False: more than a window can be."""
        stream.window += increment
        if stream.window > h2.MAX_WINDOW:
            return False
        if stream.waiting:
            self._sendable[stream] = None
            self._pump()
        return True

    def set_initial_window(self, value: int, streams: Iterable[H2Stream]) -> None:
        """The client takes more, or less, on every stream.

        Raises:
            ConnectionBroken: a window becomes too large.
        """
        change, self.initial_window = value - self.initial_window, value
        for stream in list(streams):
            if not self.widen_stream(stream, change):
                raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, "A window is too large.")

    def set_max_frame_size(self, value: int) -> None:
        """The client takes larger frames."""
        self._max_piece = min(value, _MAX_PIECE_BYTES)

    # --- taking turns -----------------------------------------------------------------------------

    def _pump(self) -> None:
        """Send what the windows let, one frame of each stream at a time."""
        while self._sendable and self._window > 0:
            stream = next(iter(self._sendable))
            del self._sendable[stream]
            if not stream.waiting:
                continue
            if stream.window > 0:
                self._send_piece(stream, stream.waiting)
            if not stream.waiting:
                if stream.trailers is not None:
                    self._send_trailers(stream)
                _wake(stream)
            elif stream.window > 0:
                self._sendable[stream] = None

    def _send_piece(self, stream: H2Stream, waiting: deque[memoryview]) -> None:
        whole = waiting[0]
        size = min(len(whole), stream.window, self._window, self._max_piece)
        self.write(h2.HEADER.pack(size << 8 | h2.DATA, 0, stream.stream_id))
        self._held.append(whole[:size])
        self._has_large = self._has_large or size > _LARGE_BYTES
        stream.window -= size
        self._window -= size
        if size == len(whole):
            waiting.popleft()
        else:
            waiting[0] = whole[size:]

    def _send_trailers(self, stream: H2Stream) -> None:
        flags = h2.END_HEADERS | h2.END_STREAM
        block = stream.trailers or b""
        self.write(h2.frame(h2.HEADERS, flags, stream.stream_id, block))
        self._on_ended(stream)


def _wake(stream: H2Stream) -> None:
    waiter, stream.waiter = stream.waiter, None
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
