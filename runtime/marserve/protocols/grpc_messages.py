"""The messages in a call's body: each with a flag (compressed?) and its length before it. Pure."""

from __future__ import annotations

import zlib
from struct import Struct
from typing import Final

from marserve.protocols.grpc_heads import ENCODINGS
from marserve.protocols.grpc_status import CallRefused, Code, Failure

PREFIX_BYTES: Final = 5
_PREFIX = Struct(">BI")
_WBITS = {"gzip": 31, "deflate": 15}


def prefixed(message: bytes) -> bytes:
    """A message as it is sent; nothing is compressed."""
    return _PREFIX.pack(0, len(message)) + message


class Messages:
    """Takes a body as it comes, and gives its messages one by one.

    Args:
        encoding: how compressed messages are compressed: one of `ENCODINGS`.
        max_bytes: of one message, compressed and not.
    """

    def __init__(self, encoding: str, max_bytes: int) -> None:
        self._encoding = encoding
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """More of the body."""
        self._buffer += data

    @property
    def missing_bytes(self) -> int:
        """How much of the next message is still to come, as far as that is known.

        Raises:
            CallRefused: it is too large.
        """
        if len(self._buffer) < PREFIX_BYTES:
            return 0
        length: int = _PREFIX.unpack_from(self._buffer)[1]
        check_size(length, self._max_bytes)
        return max(0, PREFIX_BYTES + length - len(self._buffer))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left."""
        return not self._buffer

    def next(self) -> tuple[bytes, int] | None:
        """The next message and how many bytes it took; None: it is not complete.

        Raises:
            CallRefused: it is too large, or cannot be unpacked.
        """
        if len(self._buffer) < PREFIX_BYTES or self.missing_bytes:
            return None
        flag, length = _PREFIX.unpack_from(self._buffer)
        size_bytes = PREFIX_BYTES + length
        with memoryview(self._buffer) as view:
            message = bytes(view[PREFIX_BYTES:size_bytes])
        del self._buffer[:size_bytes]
        if flag:
            message = unpacked(message, flag, self._encoding, self._max_bytes)
        return message, size_bytes


def whole(body: bytes, max_bytes: int) -> bytes | None:
    """The one message of a body that is nothing else, uncompressed and small enough; else None."""
    size = len(body) - PREFIX_BYTES
    if 0 <= size <= max_bytes and body[0] == 0 and int.from_bytes(body[1:5], "big") == size:
        return body[PREFIX_BYTES:]
    return None


def check_size(size_bytes: int, max_bytes: int) -> None:
    """Refuse a message that is too large.

    Raises:
        CallRefused: it is.
    """
    if size_bytes > max_bytes:
        raise CallRefused(
            Failure(
                Code.RESOURCE_EXHAUSTED,
                f"The message is larger than max_request_size allows: {size_bytes} bytes, "
                f"of {max_bytes}.",
                http_status=413,
            )
        )


def check_encoding(encoding: str) -> None:
    """Refuse a compression that is not known.

    Raises:
        CallRefused: it is none of `ENCODINGS`.
    """
    if encoding not in ENCODINGS:
        raise CallRefused(
            Failure(
                Code.UNIMPLEMENTED,
                f"Messages cannot be compressed with {encoding} here; "
                f"there are {', '.join(ENCODINGS)}.",
                http_status=501,
            )
        )


def unpacked(message: bytes, flag: int, encoding: str, max_bytes: int) -> bytes:
    """What was compressed; never more than `max_bytes` are unpacked.

    Raises:
        CallRefused: it is too large, or not what it is said to be.
    """
    wbits = _WBITS.get(encoding)
    if flag != 1 or wbits is None:
        raise CallRefused(
            Failure(Code.INTERNAL, "A message is compressed, and nothing says how.", "", 400)
        )
    unpacker = zlib.decompressobj(wbits)
    try:
        raw = unpacker.decompress(message, max_bytes + 1)
    except zlib.error as error:
        raise CallRefused(
            Failure(Code.INTERNAL, f"A message is not compressed with {encoding}.", "", 400)
        ) from error
    if len(raw) > max_bytes:
        raise CallRefused(
            Failure(
                Code.RESOURCE_EXHAUSTED,
                f"The message is larger than max_request_size allows: it unpacks to more than "
                f"{max_bytes} bytes.",
                http_status=413,
            )
        )
    if not unpacker.eof or unpacker.unused_data:
        raise CallRefused(
            Failure(Code.INTERNAL, "A compressed message does not end where it ends.", "", 400)
        )
    return raw
