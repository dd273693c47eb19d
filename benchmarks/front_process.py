"""The prototype that `front_processes.py` measures: fronts read HTTP, one process does the rest.

    python front_process.py core CONFIG FD...     the server, with a link on each descriptor
    python front_process.py front PORT FD LOGS    a front on a shared port (SO_REUSEPORT)

Both are the product's own parts: a front has the connection, routes, heads, access log and metrics
of requests; the core has queues, batches, workers and metrics of batches. Between them travels one
frame per turn of a loop (length, then msgpack), with all requests, or all answers, of that turn.
The headers that clients repeat travel once and are then known by a number. What a product would
need besides (clients that hang up, streamed answers, other APIs) is left out, which makes the
prototype a little faster than the real thing could be.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import uvloop

import marserve.server
from marserve import config as configuration
from marserve.directory import Directory
from marserve.errors import HandlerFailed, MarServeError
from marserve.events import Bus
from marserve.health import Health
from marserve.inference import Inference
from marserve.observe import logs
from marserve.observe.observers import Observers
from marserve.request import Answer, Header, Job, Reply, Request, RequestPart
from marserve.servers.about import About
from marserve.servers.http import HttpServer
from marserve.servers.inference import FrontOptions, InferenceFront

LENGTH = struct.Struct("<I")
MAX_BODY_BYTES = 1 << 20


class Asked(msgspec.Struct, array_like=True, gc=False):
    """A request on its way to the core."""

    number: int
    headers: int
    name: str
    version: str | None
    id: str
    parts: list[RequestPart]


class Question(msgspec.Struct, array_like=True, gc=False):
    """What a front has read in one turn of its loop."""

    heads: list[tuple[int, list[Header]]]
    asked: list[Asked]


class Answered(msgspec.Struct, array_like=True, gc=False):
    """An answer on its way back; a status of 0 means that there was an error."""

    number: int
    body: bytes
    status: int
    phrase: str | None
    headers: list[Header] | None


class Link(asyncio.Protocol):
    """One end of a socketpair: frames in, frames out, one write per turn of the loop."""

    def __init__(self, kind: Any, on_frame: Callable[[Any], None]) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._encoder = msgspec.msgpack.Encoder()
        self._on_frame = on_frame
        self._pending = bytearray()
        self._transport: Any = None

    @classmethod
    async def open(cls, fd: int, kind: Any, on_frame: Callable[[Any], None]) -> Link:
        """Take over the descriptor of one end; frames are of `kind`."""
        link = cls(kind, on_frame)
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=sock)
        return link

    def send(self, frame: Any) -> None:
        """Send one frame."""
        data = self._encoder.encode(frame)
        self._transport.write(LENGTH.pack(len(data)) + data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: without the other end there is nothing to do."""
        os._exit(0)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._pending:
            self._pending += data
            data = bytes(self._pending)
        at = 0
        while len(data) - at >= LENGTH.size:
            end = at + LENGTH.size + LENGTH.unpack_from(data, at)[0]
            if end > len(data):
                break
            frame = self._decoder.decode(memoryview(data)[at + LENGTH.size : end])
            at = end
            self._on_frame(frame)
        self._pending = bytearray(data[at:]) if at < len(data) else bytearray()


# --- runs in the core ---


class CoreJob(Job):
    """Its answer goes back to a front."""

    number = 0
    replies: Any = None

    def deliver(self, reply: Reply) -> None:
        """Put it into the frame of this turn."""
        self.replies.add(self.number, reply)


class Replies:
    """The core's end of a link."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self._loop = asyncio.get_running_loop()
        self._heads: dict[int, list[Header]] = {}
        self._answered: list[Answered] = []
        self._link: Link | None = None

    async def open(self, fd: int) -> None:
        """Begin to take requests from a front."""
        self._link = await Link.open(fd, Question, self._take)

    def add(self, number: int, reply: Reply) -> None:
        """Send an answer with the others of this turn."""
        if not self._answered:
            self._loop.call_soon(self._flush)
        if isinstance(reply, Answer):
            one = Answered(number, reply.body, reply.status, reply.phrase, reply.headers)
        else:
            one = Answered(number, str(reply).encode(), 0, None, None)
        self._answered.append(one)

    def _take(self, question: Question) -> None:
        self._heads.update(question.heads)
        now = time.monotonic()
        for asked in question.asked:
            job = CoreJob(Request(asked.id, self._heads[asked.headers], asked.parts), now)
            job.number, job.replies = asked.number, self
            try:
                self._inference.start(job, asked.name, asked.version)
            except MarServeError as error:
                self.add(asked.number, error)

    def _flush(self) -> None:
        answered, self._answered = self._answered, []
        assert self._link is not None
        self._link.send(answered)


def core(config_file: Path, fds: list[int]) -> int:
    """The product's server, which takes requests over links as well."""

    class Core(Inference):
        def __init__(self, directory: Directory, bus: Bus, clock: Callable[[], float]) -> None:
            super().__init__(directory, bus, clock)
            loop = asyncio.get_running_loop()
            self._links = [Replies(self) for _ in fds]
            self._opening = [
                loop.create_task(link.open(fd)) for link, fd in zip(self._links, fds, strict=True)
            ]

    marserve.server.Inference = Core  # type: ignore[misc]
    loaded = configuration.load(config_file, {}, {}, Path.cwd()).config
    return marserve.server.serve(loaded, on_ready=lambda _: None, console=False)


# --- runs in a front ---


class Remote(Inference):
    """What the front takes for the data plane: it sends to the core what is asked."""

    def __init__(self, bus: Bus, fd: int) -> None:
        super().__init__(Directory(), bus, time.monotonic)
        self._fd = fd
        self._link: Link | None = None
        self._number = 0
        self._waiting: dict[int, Job] = {}
        self._known: dict[int, list[Header]] = {}
        self._heads: list[tuple[int, list[Header]]] = []
        self._asked: list[Asked] = []

    async def open(self) -> None:
        """Connect to the core."""
        self._link = await Link.open(self._fd, list[Answered], self._take)

    def start(self, job: Job, name: str, version: str | None) -> None:
        """Send a request with the others of this turn."""
        request = job.request
        key = id(request.headers)
        if key not in self._known:
            self._known[key] = request.headers  # kept, so that no other gets its number
            self._heads.append((key, request.headers))
        self._number += 1
        self._waiting[self._number] = job
        if not self._asked:
            self._loop.call_soon(self._flush)
        self._asked.append(Asked(self._number, key, name, version, request.id, request.parts))

    def _flush(self) -> None:
        question = Question(self._heads, self._asked)
        self._heads, self._asked = [], []
        assert self._link is not None
        self._link.send(question)

    def _take(self, answers: list[Answered]) -> None:
        for one in answers:
            job = self._waiting.pop(one.number)
            if one.status:
                job.resolve(Answer(one.body, one.status, one.phrase, one.headers))
            else:
                job.resolve(HandlerFailed(one.body.decode()))


async def front(port: int, fd: int, log: logs.Logs, log_dir: Path) -> None:
    """Serve the inference API on a shared port until the core ends."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    sock.setblocking(False)
    settings = {"log_dir": str(log_dir), "disable_system_metrics": "true"}
    bus = Bus()
    loaded = configuration.load(None, settings, {}, log_dir).config
    observers = Observers(bus, loaded, log, "front")
    remote = Remote(bus, fd)
    await remote.open()
    directory = Directory()
    about = About(remote, directory, Health(directory, lambda: True), "prototype")
    options = FrontOptions(MAX_BODY_BYTES)
    serving = InferenceFront(remote, about, bus, time.monotonic, options)
    await HttpServer(sock, MAX_BODY_BYTES, serving.on_request, serving.on_refused).start()
    await asyncio.Event().wait()
    observers.close()


def main() -> int:
    """One process of the prototype."""
    role, *rest = sys.argv[1:]
    if role == "core":
        return core(Path(rest[0]), [int(fd) for fd in rest[1:]])
    port, fd, log_dir = int(rest[0]), int(rest[1]), Path(rest[2])
    log_dir.mkdir(parents=True, exist_ok=True)
    log = logs.configure(log_dir, False)
    uvloop.run(front(port, fd, log, log_dir))
    return 0


if __name__ == "__main__":
    sys.exit(main())
