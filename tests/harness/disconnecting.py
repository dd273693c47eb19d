"""Clients that go away: in each phase of a request, over HTTP and gRPC, with a reset or without."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from marserve.protocols import h2_frames as h2
from marserve.protocols.grpc_messages import prefixed
from marserve.protocols.h2_frames import ErrorCode
from marserve.protocols.h2_headers import encoded
from marserve.protocols.pb.inference_pb2 import PredictionsRequest

_SERVICE = b"/org.pytorch.serve.grpc.inference.InferenceAPIsService/"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Prey:
    """A server to go away from. `echo` answers, `streams` is a model that sends pieces."""

    http: tuple[str, int]
    grpc: tuple[str, int]
    body: Callable[[int], bytes]
    """What number n asks of `echo`."""
    echo: str = "echo"
    streams: str = "streams"
    pieces: int = 30


class Client:
    """One connection that will be left."""

    def __init__(self, prey: Prey, number: int, dice: random.Random) -> None:
        self.prey = prey
        self.number = number
        self.dice = dice

    async def go(self, phase: str) -> None:
        """Connect, get as far as `phase`, and leave."""
        protocol = phase.partition(" ")[0]
        address = self.prey.http if protocol == "http" else self.prey.grpc
        self.reader, self.writer = await asyncio.open_connection(*address)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await PHASES[phase](self)
        finally:
            if self.dice.random() < 0.5:
                sock = self.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    # --- HTTP ---

    def request(self, model: str, body: bytes) -> bytes:
        return b"POST /predictions/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (
            model.encode(),
            len(body),
            body,
        )

    def ask(self) -> bytes:
        return self.request(self.prey.echo, self.prey.body(self.number))

    async def http_before(self) -> None:
        """Not a byte is sent."""

    async def http_head(self) -> None:
        data = self.ask()
        await self.send(data[: self.dice.randrange(1, data.index(b"\r\n\r\n"))])

    async def http_body(self) -> None:
        data = self.ask()
        await self.send(data[: self.dice.randrange(data.index(b"\r\n\r\n") + 4, len(data))])

    async def http_waiting(self) -> None:
        await self.send(self.ask())

    async def http_answering(self) -> None:
        await self.send(self.ask())
        await asyncio.sleep(self.dice.random() * 0.004)  # about when the answer comes

    async def http_streaming(self) -> None:
        await self.send(self.request(self.prey.streams, b"%d" % self.prey.pieces))
        await self.reader.readuntil(b"\r\n\r\n")
        await self.reader.read(1)

    # --- gRPC ---

    def hello(self, method: bytes) -> bytes:
        fields = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", _SERVICE + method),
            (b":authority", b"x"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        ]
        headers = h2.frame(h2.HEADERS, h2.END_HEADERS, 1, encoded(fields))
        return h2.PREFACE + h2.settings({}) + headers

    def message(self, model: str, body: bytes) -> bytes:
        asked = PredictionsRequest(model_name=model, input={"body": body})
        return h2.frame(h2.DATA, h2.END_STREAM, 1, prefixed(asked.SerializeToString()))

    def call(self) -> bytes:
        body = self.prey.body(self.number)
        return self.hello(b"Predictions") + self.message(self.prey.echo, body)

    async def until(self, kind: int) -> None:
        """Read frames up to one of this kind."""
        while True:
            head = await self.reader.readexactly(h2.HEADER_BYTES)
            length_and_kind, flags, stream_id = h2.HEADER.unpack(head)
            payload = await self.reader.readexactly(length_and_kind >> 8)
            if length_and_kind & 0xFF == kind:
                return
            if stream_id and flags & h2.END_STREAM:
                raise OSError(f"the call ended early: {payload!r}")

    async def grpc_greeting(self) -> None:
        await self.send(h2.PREFACE[: self.dice.randrange(1, len(h2.PREFACE))])

    async def grpc_headers(self) -> None:
        await self.send(self.hello(b"Predictions"))

    async def grpc_message(self) -> None:
        data = self.call()
        await self.send(data[: self.dice.randrange(len(data) - 20, len(data))])

    async def grpc_waiting(self) -> None:
        await self.send(self.call())

    async def grpc_cancelling(self) -> None:
        await self.send(self.call() + h2.rst_stream(1, ErrorCode.CANCEL))
        await asyncio.sleep(self.dice.random() * 0.004)

    async def grpc_streaming(self) -> None:
        asked = self.message(self.prey.streams, b"%d" % self.prey.pieces)
        await self.send(self.hello(b"StreamPredictions") + asked)
        await self.until(h2.DATA)
        if self.dice.random() < 0.5:
            await self.send(h2.rst_stream(1, ErrorCode.CANCEL))


PHASES: dict[str, Callable[[Client], Awaitable[None]]] = {
    "http before a byte": Client.http_before,
    "http in the head": Client.http_head,
    "http in the body": Client.http_body,
    "http waiting": Client.http_waiting,
    "http while answered": Client.http_answering,
    "http in a stream": Client.http_streaming,
    "grpc in the greeting": Client.grpc_greeting,
    "grpc after the headers": Client.grpc_headers,
    "grpc in the message": Client.grpc_message,
    "grpc waiting": Client.grpc_waiting,
    "grpc cancelling": Client.grpc_cancelling,
    "grpc in a stream": Client.grpc_streaming,
}
"""How far a client gets before it leaves: six phases of each protocol."""


async def leave(
    prey: Prey, count: int, at_once: int, seed: int, is_over: Callable[[], bool] = lambda: False
) -> dict[str, int]:
    """Have `count` clients come and leave, all phases in turn; how many left in each.

    Raises:
        OSError: the server does not take a client, or cuts one that did nothing wrong.
    """
    left = dict.fromkeys(PHASES, 0)
    numbers = iter(range(count))
    phases = list(PHASES)

    async def clients(dice: random.Random) -> None:
        for number in numbers:
            if is_over():
                return
            phase = phases[number % len(phases)]
            await Client(prey, number, dice).go(phase)
            left[phase] += 1

    async with asyncio.TaskGroup() as group:
        for number in range(at_once):
            group.create_task(clients(random.Random(seed * 1000 + number)))
    return left
