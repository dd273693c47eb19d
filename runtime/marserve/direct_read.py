"""Large messages go from a connection straight to the memory where they stay.

A loop makes an object of every read, which its protocol then copies to where the rest is. While a
`DirectRead` is in charge of the connection the loop reads into a buffer that it is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class DirectRead(asyncio.BufferedProtocol):
    """Stands in for `protocol`, for a single message, from the moment it is made."""

    def __init__(
        self,
        transport: asyncio.Transport,
        protocol: asyncio.Protocol,
        room: Callable[[], memoryview],
        filled: Callable[[int], bool],
    ) -> None:
        """Take over.

        Args:
            transport: whose bytes are read.
            protocol: gets the connection back after the message, and all other calls meanwhile.
            room: where the next bytes go; not empty, and not beyond the end of the message.
            filled: told how many bytes came; returns whether the message is whole.
        """
        self._transport = transport
        self._protocol = protocol
        self._room = room
        self._filled = filled
        _hand_over(transport, self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Called by the loop."""
        return self._room()

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the loop."""
        if self._filled(nbytes):
            _hand_over(self._transport, self._protocol)

    def eof_received(self) -> bool | None:
        """Called by the loop."""
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Called by the loop."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Called by the loop."""
        self._protocol.resume_writing()


def _hand_over(transport: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
    """Change the protocol. uvloop looks at its kind only when it begins to read."""
    if transport.is_closing():
        return
    is_reading = transport.is_reading()
    if is_reading:
        transport.pause_reading()
    transport.set_protocol(protocol)
    if is_reading:
        transport.resume_reading()
