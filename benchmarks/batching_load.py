"""Load on a slow model: clients that ask again at once, or requests that come at random.

Runs in a process of its own (`measure`), on one event loop with bare sockets, which is ample for
the few thousand requests a second that `batching.py` needs.
"""

from __future__ import annotations

import asyncio
import random
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import uvloop

START_S = 0.8
"""Not counted: until then the queue has filled up and the server has learned."""


class RequestFailed(Exception):
    """An answer was not 200."""


@dataclass(frozen=True, slots=True)
class Offered:
    """`clients` that send again at once, or (0 clients) `per_s` requests a second at random."""

    seconds: float
    clients: int = 0
    per_s: float = 0.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Got:
    """Answers per second, and how long they took."""

    per_s: float
    mean_ms: float
    p99_ms: float

    def raw(self) -> dict[str, Any]:
        """As JSON."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def measure(url: str, offered: Offered) -> Got:
    """What a server makes of that load.

    Raises:
        RequestFailed: an answer was not 200.
    """
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(_measure, url, offered).result()


def _measure(url: str, offered: Offered) -> Got:
    return uvloop.run(_drive(url, offered))


class _Client(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._buffer = b""
        self._since = 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = transport

    def ask(self, since: float) -> None:
        """Send a request that became due at `since`."""
        self._since = since
        self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._buffer += data
        head, mark, body = self._buffer.partition(b"\r\n\r\n")
        if not mark:
            return
        lower = head.lower()
        start = lower.find(b"content-length:") + len(b"content-length:")
        length = int(lower[start:].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._buffer = b""
        self._run.answered(self, self._since, head)


class _Run:
    def __init__(self, url: str, offered: Offered) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self.request = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        ).encode()
        self.offered = offered
        self.loop = asyncio.get_running_loop()
        self.begin = time.monotonic() + START_S
        self.end = self.begin + offered.seconds
        self.done = self.loop.create_future()
        self.free: list[_Client] = []
        self.waits_s: list[float] = []
        self.moments: list[float] = []

    async def connect(self, count: int) -> list[_Client]:
        made = []
        for _ in range(count):
            _, client = await self.loop.create_connection(
                lambda: _Client(self), self.host, self.port
            )
            made.append(client)
        return made

    def answered(self, client: _Client, since: float, head: bytes) -> None:
        if not head.startswith(b"HTTP/1.1 200"):
            if not self.done.done():
                self.done.set_exception(RequestFailed(head.decode(errors="replace")))
            return
        now = time.monotonic()
        if since >= self.begin:
            self.waits_s.append(now - since)
        if self.begin <= now <= self.end:
            self.moments.append(now)
        if self.offered.clients:
            if now < self.end:
                client.ask(now)
            elif not self.done.done():
                self.done.set_result(None)
        else:
            self.free.append(client)

    async def arrivals(self) -> None:
        rng = random.Random(self.offered.seed)
        due = time.monotonic()
        while due < self.end:
            due += rng.expovariate(self.offered.per_s)
            # the loop's timers are coarse: sleep short of it, then let it turn
            while (left := due - time.monotonic()) > 0:
                await asyncio.sleep(left - 0.0015 if left > 0.003 else 0)
            if not self.free:
                self.free += await self.connect(1)
            self.free.pop().ask(due)


async def _drive(url: str, offered: Offered) -> Got:
    run = _Run(url, offered)
    if offered.clients:
        for client in await run.connect(offered.clients):
            client.ask(time.monotonic())
        await run.done
    else:
        run.free = await run.connect(64)
        await run.arrivals()
        await asyncio.sleep(0.3)
        if run.done.done():
            run.done.result()
    ordered = sorted(run.waits_s)
    return Got(
        len(run.moments) / offered.seconds,
        1000.0 * sum(ordered) / len(ordered),
        1000.0 * ordered[int(0.99 * (len(ordered) - 1))],
    )
