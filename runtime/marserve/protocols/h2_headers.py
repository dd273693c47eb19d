"""HPACK header blocks (RFC 7541): read with memory, written without.

Clients send the same few bytes for call after call, once the names are in the table that both ends
keep. A block that changes that table is decoded; one that does not means, until the table changes,
what it meant before. What is written never touches a table, so it can be made once and for all.

Pure: bytes in, bytes out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeAlias, TypeVar

from hpack import Decoder, HPACKError, OversizedHeaderListError

from marserve.protocols.h2_frames import ConnectionBroken, ErrorCode

Fields: TypeAlias = "list[tuple[bytes, bytes]]"
"""Names and values, pseudo-headers first."""
T = TypeVar("T")

MAX_LIST_BYTES: Final = 64 * 1024
"""Of all fields of a block, 32 bytes for each included; beyond it the connection ends. What a
request may have is less; that much is decoded to keep the table, and refused."""
_MAX_KNOWN = 64
_MAX_KNOWN_BYTES = 512
_SHORT = 127


class HeaderReader(Generic[T]):
    """The header blocks of one connection, in their order.

    Args:
        understand: makes of the fields of a block what is wanted of them; it never raises.
    """

    def __init__(self, understand: Callable[[Fields], T]) -> None:
        self._understand = understand
        self._decoder = Decoder(MAX_LIST_BYTES)
        self.known: dict[bytes, T] = {}
        """What blocks mean at present, for those who cannot afford to ask `read` first."""

    def read(self, block: bytes) -> T:
        """What the block means.

        Raises:
            ConnectionBroken: it cannot be decoded, so no later block could be.
        """
        known = self.known.get(block)
        if known is not None:
            return known
        before = self._table()
        try:
            fields = [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError as error:
            raise ConnectionBroken(
                ErrorCode.ENHANCE_YOUR_CALM, f"The headers have more than {MAX_LIST_BYTES} bytes."
            ) from error
        except HPACKError as error:
            raise ConnectionBroken(
                ErrorCode.COMPRESSION_ERROR, "The headers cannot be decoded."
            ) from error
        understood = self._understand(fields)
        now = self._table()
        if before[0] is not now[0] or before[1:] != now[1:]:
            self.known.clear()
        elif len(block) <= _MAX_KNOWN_BYTES:
            if len(self.known) >= _MAX_KNOWN:
                self.known.clear()
            self.known[block] = understood
        return understood

    def _table(self) -> tuple[object, int, int]:
        """Differs after any change: a new entry is a new object, at the front."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return (entries[0] if entries else None), len(entries), table.maxsize


def encoded(fields: Fields) -> bytes:
    """A block of these fields. Names are in lower case."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


def _text(value: bytes) -> bytes:
    length = len(value)
    if length < _SHORT:
        return bytes((length,)) + value
    rest, encoded_length = length - _SHORT, bytearray((_SHORT,))
    while rest >= 0x80:
        encoded_length.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded_length.append(rest)
    return bytes(encoded_length) + value
