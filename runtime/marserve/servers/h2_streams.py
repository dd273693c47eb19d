"""The streams of one HTTP/2 connection, and every frame that may come on it.

Knows frames, windows and limits, and nothing of what the streams are about. What is half received
or held ready is bounded, and so is what a client may do that costs it less than us.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

from marserve.protocols import h2_frames as h2
from marserve.protocols.h2_frames import ConnectionBroken, ErrorCode
from marserve.protocols.h2_headers import Fields, HeaderReader
from marserve.servers.h2_allowance import Allowance
from marserve.servers.h2_output import Output
from marserve.servers.h2_stream import H2Stream
from marserve.servers.h2_turn import Turn

MAX_STREAMS: Final = 1000
"""At one time on one connection; clients hold back what is more."""
MAX_BLOCK_BYTES: Final = 64 * 1024
"""Of one header block as it is sent."""
MAX_CONTINUATIONS: Final = 64
"""Frames that one header block may have after its first."""
PATIENCE: Final = 2000
"""How often a client may do, without ever being served, what costs it nothing and us something:
reset a stream, ask for an echo, change its settings, send frames with nothing in them."""
WINDOW: Final = 16 * 1024 * 1024
"""What a client may send on all streams together before it hears of us."""
DRAINING: Final = b"the end."
"""The echo that says that a client has heard that the connection will end."""
_MAX_REMEMBERED = 1000
_UNUSUAL: Final = h2.PADDED | h2.WITH_PRIORITY

OpenStream: TypeAlias = "Callable[[H2Streams, int, Any], H2Stream | ErrorCode]"
"""Makes a stream, from its id and what was understood; or says why there will be none."""


class Owner(Protocol):
    """The connection of the streams."""

    def drain(self) -> None:
        """The client will ask for nothing more."""

    def take_no_more(self) -> None:
        """The client knows that it must not ask for more."""

    def emptied(self) -> None:
        """The last stream has ended."""


class H2Streams:
    """Owned by a connection, which gives it what it reads.

    Args:
        owner: the connection.
        loop: it runs on.
        turn: says when what is written leaves.
        understand: makes of header fields what `open_stream` wants.
        open_stream: makes streams.
        max_message_bytes: of what a stream may have to keep.
    """

    def __init__(
        self,
        owner: Owner,
        loop: asyncio.AbstractEventLoop,
        turn: Turn,
        understand: Callable[[Fields], Any],
        open_stream: OpenStream,
        max_message_bytes: int,
    ) -> None:
        self.loop = loop
        self.output = Output(turn, self._ended)
        self.allowance = Allowance(self.output, max_message_bytes)
        self.client = "-"
        """`host:port`."""
        self.last_id = 0
        """The latest stream that was begun."""
        self.has_settings = False
        """Whether the client has said what it wants."""
        self.is_closed = False
        """Whether no stream will be served that is not open already."""
        self.is_over = False
        """Whether frames are of no interest any more."""
        self.patience = PATIENCE
        self._owner = owner
        self._open_stream = open_stream
        self._reader: HeaderReader[Any] = HeaderReader(understand)
        self._known = self._reader.known
        self._open: dict[int, H2Stream] = {}
        self._reset: OrderedDict[int, None] = OrderedDict()
        self._block: bytearray | None = None
        self._block_of = (0, False)
        self._continuations = 0
        self._window_in = WINDOW

    @property
    def is_empty(self) -> bool:
        """Whether no stream is open."""
        return not self._open

    @property
    def is_alone(self) -> bool:
        """Whether there is just one stream."""
        return len(self._open) == 1

    @property
    def is_in_block(self) -> bool:
        """Whether a header block has begun and not ended."""
        return self._block is not None

    # --- frames -----------------------------------------------------------------------------------

    def read(self, data: bytes, at: int) -> int:
        """Read all whole frames from `at` on. Returns where the next one begins.

        Raises:
            ConnectionBroken: the client does not keep to the protocol, or asks too much.
        """
        end = len(data)
        unpack = h2.HEADER.unpack_from
        while end - at >= h2.HEADER_BYTES:
            length_and_kind, flags, stream_id = unpack(data, at)
            start = at + h2.HEADER_BYTES
            stop = start + (length_and_kind >> 8)
            if stop - start > h2.DEFAULT_FRAME_SIZE:
                raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "The frame is too long.")
            if stop > end:
                break
            kind = length_and_kind & 0xFF
            payload = data[start:stop]
            at = stop
            stream_id &= h2.MAX_STREAM_ID
            if self._block is not None or not self.has_settings:
                self._check_order(kind, stream_id)
            if kind == h2.HEADERS:
                if flags & _UNUSUAL or not flags & h2.END_HEADERS:
                    self._on_headers(flags, stream_id, payload)
                else:
                    self._on_block(stream_id, payload, flags & h2.END_STREAM == 1)
            elif kind == h2.DATA:
                self._on_data(flags, stream_id, payload)
            else:
                on_frame = _ON_FRAME.get(kind)
                if on_frame is not None:
                    on_frame(self, flags, stream_id, payload)
            if self.is_over:
                return end
        return at

    def _check_order(self, kind: int, stream_id: int) -> None:
        if self._block is not None:
            if kind != h2.CONTINUATION or stream_id != self._block_of[0]:
                raise _wrong("Another frame comes in the middle of a header block.")
        elif kind != h2.SETTINGS:
            raise _wrong("The first frame is no SETTINGS.")

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        payload = h2.header_block(payload, flags, stream_id)
        if flags & h2.END_HEADERS:
            self._on_block(stream_id, payload, bool(flags & h2.END_STREAM))
            return
        self._block = bytearray(payload)
        self._block_of = stream_id, bool(flags & h2.END_STREAM)
        self._continuations = 0

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._block
        if block is None:
            raise _wrong("A header block goes on that has not begun.")
        block += payload
        self._continuations += 1
        if len(block) > MAX_BLOCK_BYTES or self._continuations > MAX_CONTINUATIONS:
            raise ConnectionBroken(ErrorCode.ENHANCE_YOUR_CALM, "The headers are too long.")
        if flags & h2.END_HEADERS:
            self._block = None
            self._on_block(stream_id, bytes(block), self._block_of[1])

    def _on_block(self, stream_id: int, block: bytes, is_last: bool) -> None:
        understood = self._known.get(block) or self._reader.read(block)
        if not stream_id & 1:
            raise _wrong("Streams of clients have odd numbers.")
        if stream_id <= self.last_id:
            self._on_trailers(stream_id, is_last)
            return
        if self.is_closed:
            return  # GOAWAY has said that it will not be served
        self.last_id = stream_id
        if len(self._open) >= MAX_STREAMS:
            self._refuse(stream_id, ErrorCode.REFUSED_STREAM)
            return
        stream = self._open_stream(self, stream_id, understood)
        if isinstance(stream, ErrorCode):
            self._refuse(stream_id, stream)
            return
        self._open[stream_id] = stream
        stream.is_ended = is_last
        stream.opened(is_last)

    def _on_trailers(self, stream_id: int, is_last: bool) -> None:
        """Calls have none; what they say is of no interest, but that the body ends."""
        stream = self._open.get(stream_id)
        if stream is None:
            self._on_late(stream_id)
        elif stream.is_ended:
            self.reset(stream, ErrorCode.STREAM_CLOSED)
        elif not is_last:
            self.reset(stream, ErrorCode.PROTOCOL_ERROR)
        else:
            stream.is_ended = True
            stream.received(b"", True)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._window_in -= size
        if self._window_in < WINDOW // 2:
            self._widen()
        stream = self._open.get(stream_id)
        if stream is None:
            self._on_late(stream_id)
            return
        if stream.is_ended:
            self.reset(stream, ErrorCode.STREAM_CLOSED)
            return
        stream.window_in -= size
        if stream.window_in < 0:
            self.reset(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return
        if flags & h2.PADDED:
            payload = h2.without_padding(payload, flags)
            self.allowance.unused(stream, size - len(payload))
        if flags & h2.END_STREAM:
            stream.is_ended = True
            stream.received(payload, True)
        elif payload:
            stream.received(payload, False)
        else:
            self._lose_patience()

    def _widen(self) -> None:
        if self._window_in < 0:
            raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, "More is sent than the window.")
        self.output.write(h2.window_update(0, WINDOW - self._window_in))
        self._window_in = WINDOW

    def _on_late(self, stream_id: int) -> None:
        """A frame for a stream that is not open: too late, or wrong."""
        if not stream_id or stream_id > self.last_id:
            if not self.is_closed:
                raise _wrong("The stream has not begun.")
        elif stream_id not in self._reset:
            raise ConnectionBroken(ErrorCode.STREAM_CLOSED, "The stream is over.")
        self._lose_patience()

    def _on_priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        h2.check_priority(payload, stream_id)

    def _on_rst_stream(self, _flags: int, stream_id: int, payload: bytes) -> None:
        h2.number(payload)
        stream = self._open.get(stream_id)
        self._lose_patience()
        if stream is None:
            if not stream_id or (stream_id > self.last_id and not self.is_closed):
                raise _wrong("The stream has not begun.")
            return
        stream.is_ended = True
        self._close(stream)
        stream.gone()

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise _wrong("Settings are the connection's.")
        if flags & h2.ACK:
            if payload:
                raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "An ACK has no settings.")
            return
        self.has_settings = True
        self._lose_patience()
        for setting, value in h2.parse_settings(payload):
            if setting == h2.INITIAL_WINDOW_SIZE:
                self.output.set_initial_window(value, self._open.values())
            elif setting == h2.MAX_FRAME_SIZE:
                self.output.set_max_frame_size(value)
        self.output.write(h2.SETTINGS_ACK)

    def _on_push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise _wrong("Clients promise nothing.")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise _wrong("A PING is the connection's.")
        if len(payload) != h2.PING_BYTES:
            raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "A PING has eight bytes.")
        if not flags & h2.ACK:
            self._lose_patience()
            self.output.write(h2.ping(payload, True))
        elif payload == DRAINING:
            self._owner.take_no_more()

    def _on_goaway(self, _flags: int, stream_id: int, _payload: bytes) -> None:
        if stream_id:
            raise _wrong("A GOAWAY is the connection's.")
        self._owner.drain()

    def _on_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        increment = h2.number(payload)
        stream = self._open.get(stream_id)
        if not stream_id:
            if not increment:
                raise _wrong("A window grows by more than nothing.")
            self.output.widen(increment)
        elif stream is None:
            if stream_id > self.last_id and not self.is_closed:
                raise _wrong("The stream has not begun.")
        elif not increment:
            self.reset(stream, ErrorCode.PROTOCOL_ERROR)
        elif not self.output.widen_stream(stream, increment):
            self.reset(stream, ErrorCode.FLOW_CONTROL_ERROR)

    def _lose_patience(self) -> None:
        self.patience -= 1
        if self.patience < 0:
            raise ConnectionBroken(ErrorCode.ENHANCE_YOUR_CALM, "Too much is asked for nothing.")

    # --- streams ----------------------------------------------------------------------------------

    def reset(self, stream: H2Stream, code: ErrorCode) -> None:
        """End a stream at once, and tell both sides. The client's doing, as if it had reset it.

        Raises:
            ConnectionBroken: it has done that too often.
        """
        self.output.write(h2.rst_stream(stream.stream_id, code))
        self._remember(stream.stream_id)
        stream.is_ended = True
        self._close(stream)
        stream.gone()
        self._lose_patience()

    def refuse_all(self) -> None:
        """The server ends: every stream is answered with that."""
        for stream in list(self._open.values()):
            stream.refuse()

    def end_all(self) -> None:
        """There is no client any more, or soon there will be none."""
        self.is_over = True
        streams, self._open = list(self._open.values()), {}
        for stream in streams:
            stream.is_ended = True
            self._leave(stream)
            stream.gone()

    def _refuse(self, stream_id: int, code: ErrorCode) -> None:
        self._remember(stream_id)
        self._lose_patience()
        self.output.write(h2.rst_stream(stream_id, code))

    def _ended(self, stream: H2Stream) -> None:
        """The answer is out. Whatever the client still sends is of no use."""
        self.patience += 1
        if not stream.is_ended:
            self._remember(stream.stream_id)
            self.output.write(h2.rst_stream(stream.stream_id, ErrorCode.NO_ERROR))
        self._close(stream)

    def _remember(self, stream_id: int) -> None:
        """Frames may be on their way that belong to a stream which ended on this side."""
        self._reset[stream_id] = None
        if len(self._reset) > _MAX_REMEMBERED:
            self._reset.popitem(last=False)

    def _close(self, stream: H2Stream) -> None:
        self._open.pop(stream.stream_id, None)
        self._leave(stream)
        if self.is_closed and not self._open:
            self._owner.emptied()

    def _leave(self, stream: H2Stream) -> None:
        stream.is_over = True
        if stream.waiting or stream.waiter:
            self.output.drop(stream)
        self.allowance.closed(stream)


def _wrong(reason: str) -> ConnectionBroken:
    return ConnectionBroken(ErrorCode.PROTOCOL_ERROR, reason)


_ON_FRAME: Final[dict[int, Callable[[H2Streams, int, int, bytes], None]]] = {
    h2.PRIORITY: H2Streams._on_priority,
    h2.RST_STREAM: H2Streams._on_rst_stream,
    h2.SETTINGS: H2Streams._on_settings,
    h2.PUSH_PROMISE: H2Streams._on_push_promise,
    h2.PING: H2Streams._on_ping,
    h2.GOAWAY: H2Streams._on_goaway,
    h2.WINDOW_UPDATE: H2Streams._on_window_update,
    h2.CONTINUATION: H2Streams._on_continuation,
}
