"""F-H2: whatever a client sends on a gRPC port, the connection answers with whole frames, ends what
it must end, and never raises."""

import asyncio
import atexit
from typing import Any

from marserve.protocols import h2_frames as h2
from marserve.protocols.h2_headers import encoded
from marserve.servers.h2_connection import H2Connection, H2Server, H2Timeouts
from marserve.servers.h2_stream import H2Stream
from marserve.servers.h2_turn import Turn

_BLOCK = encoded([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a/b")])
_HELLO = h2.PREFACE + h2.settings({})
_OPEN = h2.frame(h2.HEADERS, h2.END_HEADERS, 1, _BLOCK)
SEEDS = [
    _HELLO + _OPEN + h2.frame(h2.DATA, h2.END_STREAM, 1, b"\0\0\0\0\1x"),
    _HELLO + _OPEN + h2.rst_stream(1, h2.ErrorCode.CANCEL),
    _HELLO + _OPEN + h2.window_update(1, 1) + h2.window_update(0, 1) + h2.window_update(1, 0),
    _HELLO + h2.ping(b"12345678", False) + h2.settings({4: 0}) + h2.SETTINGS_ACK + _OPEN,
    _HELLO + h2.frame(h2.HEADERS, 0, 1, _BLOCK[:5]) + h2.frame(9, h2.END_HEADERS, 1, _BLOCK[5:]),
    _HELLO + h2.frame(h2.HEADERS, 0x2C, 1, b"\1\0\0\0\0\0" + _BLOCK + b"\0"),
    _HELLO + _OPEN + _OPEN.replace(b"\0\0\0\1", b"\0\0\0\3", 1) + h2.goaway(0, h2.ErrorCode(0)),
    h2.PREFACE + h2.ping(b"12345678", False),
    b"GET / HTTP/1.1\r\n\r\n",
    _HELLO + h2.frame(h2.HEADERS, h2.END_HEADERS, 1, b"\x82\x86\x84\x40\x01a\x01b\x3f\xe1\xff\x03"),
]


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class _Stream(H2Stream):
    """Answers each body with its length, and the rest with nothing."""

    def opened(self, is_last: bool) -> None:
        if is_last:
            self.received(b"", True)

    def received(self, data: bytes, is_last: bool) -> None:
        output = self.connection.output
        if is_last:
            output.begin(self, _BLOCK)
            output.data(self, b"%d" % len(data))
            output.end(self, _BLOCK)

    def gone(self) -> None:
        pass


_loop = asyncio.new_event_loop()
atexit.register(_loop.close)


def _open(connection: Any, stream_id: int, understood: Any) -> Any:
    if len(understood) % 5 == 4:
        return h2.ErrorCode.REFUSED_STREAM
    return _Stream(connection, stream_id, connection.output.initial_window)


def _answers(reads: list[bytes]) -> tuple[list[tuple[int, int, int]], bool]:
    server = H2Server(
        lambda fields: fields, _open, 1 << 16, 1 << 14, set(), Turn(_loop), H2Timeouts(), None, None
    )
    connection = H2Connection(_loop, server)
    transport = _Transport()
    connection.connection_made(transport)
    for data in reads:
        connection.data_received(data)
    connection._output.flush()
    frames, written, at = [], transport.written, 0
    if written.startswith(b"HTTP/1.1"):
        return [], transport.is_closed
    while at < len(written):
        assert len(written) - at >= h2.HEADER_BYTES, "half a frame was written"
        length_and_kind, flags, stream_id = h2.HEADER.unpack_from(written, at)
        at += h2.HEADER_BYTES + (length_and_kind >> 8)
        assert at <= len(written), "half a frame was written"
        frames.append((length_and_kind & 0xFF, flags, stream_id))
    goaways = [at for at, frame in enumerate(frames) if frame[0] == h2.GOAWAY]
    connection.connection_lost(None)
    for timer in connection._timers:
        timer.cancel()
    _loop.call_soon(_loop.stop)
    _loop.run_forever()  # what was put off to the end of the turn
    assert len(goaways) <= 3, frames
    return frames, transport.is_closed


def one_input(data: bytes) -> None:
    """Raises if the connection does, or if its answers depend on how the bytes are cut."""
    frames, is_closed = _answers([data])
    middle = len(data) // 3
    others, is_closed_too = _answers([data[:middle], data[middle:]])
    assert is_closed == is_closed_too
    assert sorted(frames) == sorted(others) or is_closed, (frames, others)
