"""The body of a request that comes in chunks (RFC 9112, 7.1), read in the one way it can be. Pure.

Stricter than the grammar where readers are known to differ: sizes and extensions are short, chunks
are counted, and nothing but CRLF ends a line. Extensions and trailers are checked and dropped.
"""

from __future__ import annotations

import re
from typing import Final

MAX_CHUNKS: Final = 65_536
"""Of one body, the last and empty one not counted."""
MAX_EXTENSION_BYTES: Final = 256
MAX_TRAILER_BYTES: Final = 32 * 1024
MAX_TRAILERS: Final = 100
_MAX_LINE_BYTES: Final = 16 + MAX_EXTENSION_BYTES
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SIZE = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|"
    rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"))?)*)'
)
_TRAILER = re.compile(rb"(" + _TOKEN + rb"):[\t \x21-\x7e\x80-\xff]*")
_FRAMING: Final = frozenset(
    {b"connection", b"content-length", b"host", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""Nobody may be made to believe that a trailer says these."""


class BodyRefused(Exception):
    """The body cannot be read, or is too large; `status` says which."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class ChunkedBody:
    """One body. Owned by the reader of its connection."""

    __slots__ = (
        *("_announced_bytes", "_chunks", "_held", "_left", "_max_bytes", "_pieces"),
        *("_trailer_bytes", "_trailers", "_wants_crlf", "is_whole"),
    )

    def __init__(self, max_bytes: int) -> None:
        self._announced_bytes = 0
        self.is_whole = False
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._chunks = 0
        self._left = 0
        self._wants_crlf = False
        self._held = b""
        self._trailers = -1
        self._trailer_bytes = 0

    @property
    def received_bytes(self) -> int:
        """What has come of the chunks; one that is announced has not come yet."""
        return self._announced_bytes - self._left

    @property
    def body(self) -> bytes:
        """All of it, once it is whole."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to the body; returns what comes after its end.

        Raises:
            BodyRefused: nothing that follows can be read either.
        """
        if self._held:
            data, self._held = self._held + data, b""
        at = 0
        while not self.is_whole:
            if self._left:
                piece = data[at : at + self._left]
                self._pieces.append(piece)
                self._left -= len(piece)
                at += len(piece)
                if self._left:
                    return b""
            if self._wants_crlf:
                two = data[at : at + 2]
                if two != b"\r\n":
                    self._hold(two)
                    return b""
                self._wants_crlf = False
                at += 2
            longest = _MAX_LINE_BYTES if self._trailers < 0 else MAX_TRAILER_BYTES
            end = data.find(b"\r\n", at, at + longest + 2)
            if end < 0:
                self._hold(data[at:], longest)
                return b""
            self._line(data[at:end])
            self._wants_crlf = self._left > 0
            at = end + 2
        return data[at:]

    def _hold(self, held: bytes, longest: int = 0) -> None:
        """Keep the beginning of a line for when its end is there, unless it can have none."""
        if len(held) >= longest + 2 or b"\n" in held or b"\r" in held[:-1]:
            raise BodyRefused(400)
        if not longest and held not in (b"", b"\r"):
            raise BodyRefused(400)
        self._held = held

    def _line(self, line: bytes) -> None:
        if self._trailers >= 0:
            self._trailer(line)
            return
        size = _SIZE.fullmatch(line)
        if size is None or len(size[2]) > MAX_EXTENSION_BYTES:
            raise BodyRefused(400)
        self._left = int(size[1], 16)
        if not self._left:
            self._trailers = 0
            return
        self._chunks += 1
        self._announced_bytes += self._left
        if self._announced_bytes > self._max_bytes:
            raise BodyRefused(413)
        if self._chunks > MAX_CHUNKS:
            raise BodyRefused(400)

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.is_whole = True
            return
        field = _TRAILER.fullmatch(line)
        self._trailers += 1
        self._trailer_bytes += len(line)
        if field is None or field[1].lower() in _FRAMING:
            raise BodyRefused(400)
        if self._trailers > MAX_TRAILERS or self._trailer_bytes > MAX_TRAILER_BYTES:
            raise BodyRefused(431)
