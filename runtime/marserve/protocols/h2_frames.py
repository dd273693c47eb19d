"""HTTP/2 frames (RFC 9113): their parts, the ones that a server sends, what is wrong with others.

Pure: bytes in, bytes out. Which frame may come when is the connection's concern.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What every client sends first."""

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

HEADER_BYTES: Final = 9
DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME_SIZE: Final = 16_384
MAX_WINDOW: Final = 2**31 - 1
MAX_STREAM_ID: Final = 2**31 - 1
PING_BYTES: Final = 8

HEADER: Final = Struct(">IBI")
"""Length and type together (length * 256 + type), flags, stream; the top bit of the last means
nothing."""
_SETTING = Struct(">HI")
_WORD = Struct(">I")
_TWO_WORDS = Struct(">II")
_PRIORITY_BYTES = 5
_LARGEST_FRAME_SIZE = 2**24 - 1


class ErrorCode(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ConnectionBroken(Exception):
    """The connection cannot go on; `code` and the sentence are what the client is told."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


# --- what is sent ---------------------------------------------------------------------------------


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One whole frame."""
    return HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def settings(values: dict[int, int]) -> bytes:
    """What this side wants of the other."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*one) for one in values.items()))


def window_update(stream_id: int, increment: int) -> bytes:
    """So many bytes more may be sent; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, _WORD.pack(increment))


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    """The stream is over."""
    return frame(RST_STREAM, 0, stream_id, _WORD.pack(code))


def goaway(last_stream_id: int, code: ErrorCode, reason: str = "") -> bytes:
    """No stream after the last one will be served."""
    return frame(GOAWAY, 0, 0, _TWO_WORDS.pack(last_stream_id, code) + reason.encode())


def ping(payload: bytes, is_answer: bool) -> bytes:
    """Whether anybody is there, or that somebody is; `payload` is eight bytes."""
    return frame(PING, ACK if is_answer else 0, 0, payload)


SETTINGS_ACK: Final = frame(SETTINGS, ACK, 0)


# --- what is received -----------------------------------------------------------------------------


def without_padding(payload: bytes, flags: int) -> bytes:
    """The payload of DATA or HEADERS proper.

    Raises:
        ConnectionBroken: the padding is longer than the frame.
    """
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "The padding is longer than its frame.")
    return payload[1 : len(payload) - payload[0]]


def header_block(payload: bytes, flags: int, stream_id: int) -> bytes:
    """What HEADERS has of the header block. Priorities are out of use, and skipped.

    Raises:
        ConnectionBroken: padding or priority are wrong.
    """
    block = without_padding(payload, flags)
    if not flags & WITH_PRIORITY:
        return block
    check_priority(block[:_PRIORITY_BYTES], stream_id)
    return block[_PRIORITY_BYTES:]


def check_priority(payload: bytes, stream_id: int) -> None:
    """Whether this could be a priority.

    Raises:
        ConnectionBroken: it could not.
    """
    if len(payload) != _PRIORITY_BYTES:
        raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "A priority has five bytes.")
    if not stream_id or number(payload[:4]) == stream_id:
        raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "A priority belongs to no such stream.")


def number(payload: bytes) -> int:
    """A number of 31 bits, as RST_STREAM, WINDOW_UPDATE and GOAWAY have it.

    Raises:
        ConnectionBroken: these are not four bytes.
    """
    if len(payload) != _WORD.size:
        raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "The frame has four bytes.")
    return int.from_bytes(payload, "big") & MAX_WINDOW


def parse_settings(payload: bytes) -> list[tuple[int, int]]:
    """Numbers and values, in their order; unknown ones included.

    Raises:
        ConnectionBroken: a value is none that its setting can have.
    """
    if len(payload) % _SETTING.size:
        raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "A setting has six bytes.")
    pairs = list(_SETTING.iter_unpack(payload))
    for setting, value in pairs:
        if setting == ENABLE_PUSH and value > 1:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1.")
        if setting == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, "The initial window is too large.")
        if setting == MAX_FRAME_SIZE and not DEFAULT_FRAME_SIZE <= value <= _LARGEST_FRAME_SIZE:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of its range.")
    return pairs
