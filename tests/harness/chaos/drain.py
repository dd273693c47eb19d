"""One server that is told to stop under load, and what its clients and its end looked like."""

from __future__ import annotations

import asyncio
import http.client
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from running_server import Server

from chaos.callers import Books, Callers


@dataclass(frozen=True, slots=True)
class Load:
    """How many clients of each kind ask, how long each of their requests takes."""

    fresh: int = 0
    kept: int = 0
    calls: int = 0
    idle: int = 0
    """Connections that have had an answer and want nothing more."""
    half: int = 0
    """Connections that have sent half a request, and send the rest a little later."""
    work_s: float = 0.01


@dataclass(frozen=True, slots=True)
class Drain:
    """How one stop went."""

    books: Books
    halves: Sequence[bytes]
    """What the half requests got."""
    exit_code: int
    took_s: float
    """From the signal to the end of the process."""
    unready_after_s: float | None
    """From the signal until readiness was seen to be false; None: it was not asked."""


async def drain(
    server: Server, load: Load, after_s: float, *, asks_readiness: bool = False
) -> Drain:
    """Put the load on a running server of the model `echo` (moody.py), and send it SIGTERM."""
    callers = Callers(
        server.address("inference"),
        server.addresses["grpc_inference"].removeprefix("grpc://"),
        body=b"sleep %g" % load.work_s,
    )
    idle = [await _answered(server) for _ in range(load.idle)]
    halves = [await _half(server) for _ in range(load.half)]
    await callers.start(load.fresh, load.kept, load.calls)
    await asyncio.sleep(after_s)
    process = server.process
    assert process is not None
    probe = _probe(server) if asks_readiness else None
    told_s = time.monotonic()
    process.send_signal(signal.SIGTERM)
    unready_s = None if probe is None else await asyncio.to_thread(_unready_after, probe, told_s)
    rests = [asyncio.create_task(_rest(*half)) for half in halves]
    exit_code = await asyncio.to_thread(process.wait, 60.0)
    took_s = time.monotonic() - told_s
    server.process = None
    got = [await rest for rest in rests]
    for _, writer in idle:
        writer.close()
    return Drain(await callers.finish(), got, exit_code, took_s, unready_s)


def _probe(server: Server) -> http.client.HTTPConnection:
    """Connected already: what counts is the answer, not the way there."""
    connection = server.connect()
    connection.request("GET", "/healthz/ready")
    response = connection.getresponse()
    assert response.status == 200, response.read()
    response.read()
    return connection


def _unready_after(probe: http.client.HTTPConnection, told_s: float) -> float:
    while True:
        asked_s = time.monotonic()
        probe.request("GET", "/healthz/ready")
        response = probe.getresponse()
        response.read()
        if response.status == 503:
            probe.close()
            return asked_s - told_s
        time.sleep(0.002)


async def _answered(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*server.address("inference"))
    writer.write(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return reader, writer


async def _half(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*server.address("inference"))
    writer.write(b"POST /predictions/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf ")
    await writer.drain()
    return reader, writer


async def _rest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    await asyncio.sleep(0.3)  # the port has closed by then
    writer.write(b"whole")
    try:
        return await reader.read()
    except ConnectionError as error:
        return repr(error).encode()
    finally:
        writer.close()
