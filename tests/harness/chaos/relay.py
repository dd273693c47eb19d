"""A bad network in a process: a TCP relay that delays, throttles, slices, cuts and swallows.

`Weather` says how bad it is, for each direction by itself; connections keep the weather that they
began with. A cut comes after an exact number of bytes, as a reset or as an end.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass
from enum import Enum

_READ_BYTES = 65536
_RESET = struct.pack("ii", 1, 0)


class Cut(Enum):
    """How a connection is ended early."""

    RESET = "RST"
    END = "FIN"
    HALF = "half open"
    """Nothing more is carried, and neither side is told."""


@dataclass(frozen=True, slots=True)
class Weather:
    """What one direction of a connection goes through."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    slice_bytes: int | None = None
    """Passed on in pieces of so many bytes, each a write of its own."""
    cut_after_bytes: int | None = None
    cut: Cut = Cut.RESET
    swallows: bool = False
    """A black hole: everything is read, nothing passed on."""


CLEAR = Weather()


class Relay:
    """Listens on `address` and passes everything on to `target`. An async context manager."""

    def __init__(
        self, target: tuple[str, int], up: Weather = CLEAR, down: Weather = CLEAR, seed: int = 1
    ) -> None:
        """`up`: from clients to the target; `down`: back. Both may be replaced at any time."""
        self.up, self.down = up, down
        self.address = ("127.0.0.1", 0)
        self.cuts = 0
        """How many connections were cut."""
        self._target = target
        self._rng = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._accept, *self.address)
        self.address = self._server.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            ends = (writer, far_writer)
            try:
                await asyncio.gather(
                    self._carry(reader, far_writer, self.up, ends),
                    self._carry(far_reader, writer, self.down, ends),
                )
            finally:
                for end in ends:
                    end.transport.abort()
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        weather: Weather,
        ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        left = weather.cut_after_bytes
        while data := await reader.read(_READ_BYTES):
            if weather.swallows:
                continue
            due = data if left is None else data[:left]
            await self._pass_on(due, writer, weather)
            if left is not None:
                left -= len(due)
                if left <= 0:
                    await self._cut(weather.cut, ends)
                    return
        # uvloop raises RuntimeError where the other direction has just ended the connection
        if not weather.swallows and not writer.is_closing():
            with contextlib.suppress(OSError, RuntimeError):
                writer.write_eof()

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter, weather: Weather) -> None:
        if weather.latency_s or weather.jitter_s:
            await asyncio.sleep(weather.latency_s + self._rng.random() * weather.jitter_s)
        step = weather.slice_bytes or len(data) or 1
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            writer.write(piece)
            await writer.drain()
            pause_s = len(piece) / weather.bytes_per_s if weather.bytes_per_s else 0.0
            if pause_s or weather.slice_bytes:
                await asyncio.sleep(pause_s)

    async def _cut(self, how: Cut, ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self.cuts += 1
        if how is Cut.HALF:
            await asyncio.Event().wait()  # until the relay ends
        for end in ends:
            await _flushed(end)
            if how is Cut.RESET:
                sock = end.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.transport.abort()
            else:
                end.close()


async def _flushed(writer: asyncio.StreamWriter) -> None:
    """Wait until the kernel has what was written, as an abort would throw it away."""
    writer.transport.set_write_buffer_limits(0)
    with contextlib.suppress(OSError):
        await writer.drain()
