"""The relay does to connections what its weather says, to the byte."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from chaos.relay import CLEAR, Cut, Relay, Weather

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def talk(up: Weather, down: Weather, say: Talk) -> Relay:
    """Talk to an echo server through a relay."""

    async def main() -> Relay:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1000):
                writer.write(data)
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with asyncio.timeout(20), Relay(server.sockets[0].getsockname(), up, down) as relay:
            reader, writer = await asyncio.open_connection(*relay.address)
            await say(reader, writer)
            writer.close()
        server.close()
        return relay

    return asyncio.run(main())


@pytest.mark.parametrize(
    "weather",
    [
        CLEAR,
        Weather(slice_bytes=1),
        Weather(latency_s=0.001, jitter_s=0.002),
        Weather(bytes_per_s=100_000.0, slice_bytes=100),
    ],
)
def test_weather_that_only_delays_changes_no_byte(weather: Weather) -> None:
    sent = bytes(range(256)) * 2

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        writer.write_eof()
        assert await reader.read(-1) == sent

    talk(weather, weather, say)


def test_latency_is_added_to_each_way() -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began = time.monotonic()
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        assert time.monotonic() - began >= 0.04

    talk(Weather(latency_s=0.02), Weather(latency_s=0.02), say)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_reset_comes_after_exactly_so_many_bytes(count: int) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"0123456789")
        assert await reader.readexactly(count) == b"0123456789"[:count]
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)

    relay = talk(CLEAR, Weather(cut_after_bytes=count, cut=Cut.RESET), say)

    assert relay.cuts == 1


def test_an_end_comes_after_exactly_so_many_bytes() -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"0123456789")
        assert await reader.read(-1) == b"0123"

    talk(CLEAR, Weather(cut_after_bytes=4, cut=Cut.END), say)


@pytest.mark.parametrize(
    ("up", "down"),
    [
        (Weather(swallows=True), CLEAR),
        (CLEAR, Weather(swallows=True)),
        (CLEAR, Weather(cut_after_bytes=0, cut=Cut.HALF)),
    ],
)
def test_a_black_hole_gives_no_sign(up: Weather, down: Weather) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)

    talk(up, down, say)
