"""The head of a request: what it says, and how to know it again. Pure.

A client sends nearly the same head with each request of a connection. What was understood of it
once, by a strict parser, is true of every head that is the same byte for byte but for the length
of the body; so such heads are recognised instead of parsed.
"""

from __future__ import annotations

import re

Field = tuple[bytes, bytes]
"""Name and value of a header, as they came."""

MAX_REPEATED_BYTES = 4096
"""Longer heads are parsed every time: a connection remembers no more than this."""
_MAX_DIGITS = 15
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*(?=\r\n)", re.IGNORECASE)
_CONTENT_LENGTH = b"content-length"


class RequestHead:
    """What the head of a request says. Shared by all requests that repeat it."""

    __slots__ = (
        "_seen",
        "body_bytes",
        "headers",
        "is_reframed",
        "keep_alive",
        "method",
        "reading",
        "takes_chunks",
        "target",
    )

    def __init__(self, method: bytes, target: bytes) -> None:
        self.method = method
        self.target = target
        self.headers: list[Field] = []
        self.body_bytes = 0
        """What `content-length` announces."""
        self.keep_alive = True
        self.takes_chunks = True
        """Whether the client knows chunks; if not, a stream ends where the connection ends."""
        self.is_reframed = False
        """The headers do not say the length of the body, or say how it was to be sent."""
        self.reading: object = None
        """What a server made of it, kept for the requests that repeat it."""
        self._seen: list[tuple[str, str]] | None = None

    @property
    def seen(self) -> list[tuple[str, str]]:
        """The headers as text. Shared as well: not to be changed."""
        if self._seen is None:
            self._seen = [
                (name.decode("latin-1"), value.decode("latin-1")) for name, value in self.headers
            ]
        return self._seen

    def header(self, name: bytes) -> bytes:
        """The first value of a header; `name` in lower case; empty when there is none."""
        for key, value in self.headers:
            if len(key) == len(name) and key.lower() == name:
                return value
        return b""

    def with_body_bytes(self, digits: bytes) -> RequestHead:
        """The same, but for the length of the body."""
        head = RequestHead(self.method, self.target)
        head.headers = [
            (name, digits if name.lower() == _CONTENT_LENGTH else value)
            for name, value in self.headers
        ]
        head.body_bytes = int(digits)
        head.reading = self.reading
        return head


class HeadPattern:
    """Knows a head again. Owned by one connection."""

    __slots__ = ("_after", "_before", "head", "raw")

    def __init__(self, head: RequestHead, raw: bytes, span: tuple[int, int]) -> None:
        """`span`: where in `raw` the digits are that say how long the body is."""
        self.head = head
        self.raw = raw
        """The bytes of `head`, blank line included."""
        self._before = raw[: span[0]]
        self._after = raw[span[1] :]

    @classmethod
    def of(cls, head: RequestHead, raw: bytes) -> HeadPattern | None:
        """The pattern of a head that was parsed from `raw`; None: it is one to parse each time."""
        lengths = list(_LENGTH.finditer(raw)) if len(raw) <= MAX_REPEATED_BYTES else []
        is_plain = head.keep_alive and head.takes_chunks and head.method != b"HEAD"
        if len(lengths) != 1 or head.is_reframed or not is_plain:
            return None
        return cls(head, raw, lengths[0].span(1))

    def matches(self, data: bytes) -> bool:
        """Whether `data` begins with this head. Then `head` and `raw` are those of `data`."""
        if data.startswith(self.raw):
            return True
        before = self._before
        if not data.startswith(before):
            return False
        start = len(before)
        end = data.find(b"\r", start, start + _MAX_DIGITS + 1)
        digits = data[start:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self._after, end):
            return False
        self.head = self.head.with_body_bytes(digits)
        self.raw = before + digits + self._after
        return True
