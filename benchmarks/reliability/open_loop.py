"""Sends requests at the moments of a schedule, whether or not earlier ones were answered.

A slow server cannot slow the schedule down, so it hides nothing. Latency counts from the moment
that the client turned to a request, connecting included; how late it did, which is the client's own
fault, is told apart (`lag_s`). Connections are kept while the server keeps them; one request at a
time on each.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

MAX_CONNECTIONS = 2000


@dataclass
class Sent:
    """One request and what became of it; `status` 0: nothing came back."""

    due: float
    group: str
    sent_at: float = 0.0
    ended_at: float = 0.0
    status: int = 0
    reason: str = ""
    attempt: int = 1

    @property
    def latency_s(self) -> float:
        """From the moment that the client turned to it."""
        return self.ended_at - self.sent_at


@dataclass
class Source:
    """Requests of one kind: `per_s` of them, at random, from `starts_s` to `ends_s`."""

    group: str
    raw: bytes
    per_s: float
    starts_s: float = 0.0
    ends_s: float = float("inf")

    def moments(self, seconds: float, rng: random.Random) -> Iterator[tuple[float, Source]]:
        """When each is due, from the start of the run."""
        now = self.starts_s
        while (now := now + rng.expovariate(self.per_s)) < min(seconds, self.ends_s):
            yield now, self


def request(target: str, body: bytes = b"x", **headers: object) -> bytes:
    """The bytes of a POST."""
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    return (
        f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n{''.join(lines)}\r\n"
    ).encode() + body


class _Connection(asyncio.Protocol):
    def __init__(self, run: Run) -> None:
        self._run = run
        self._data = b""
        self._sent: Sent | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is of no such class

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, sent: Sent, raw: bytes) -> None:
        assert self._transport is not None
        self._sent, self._data = sent, b""
        self._transport.write(raw)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, blank, body = self._data.partition(b"\r\n\r\n")
        if not blank or self._sent is None:
            return
        lowered = head.lower()
        length = int(lowered.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if len(body) < length:
            return
        sent, self._sent = self._sent, None
        sent.status = int(head[9:12])
        if sent.status >= 400:
            sent.reason = body.partition(b'"reason": "')[2].partition(b'"')[0].decode()
        if b"connection: close" in lowered:
            self.close()
        self._run.ended(sent, self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._sent is not None:
            sent, self._sent = self._sent, None
            self._run.ended(sent, self)


@dataclass
class Run:
    """One run against one port. `retries`: how often a failed request is sent again, blindly."""

    host: str
    port: int
    retries: int = 0
    retry_pause_s: float = 0.05
    done: list[Sent] = field(default_factory=list)
    lag_s: list[float] = field(default_factory=list)
    """How late each request was sent: what the client, not the server, is to blame for."""
    open: int = 0
    _idle: deque[_Connection] = field(default_factory=deque)
    _raw: dict[str, bytes] = field(default_factory=dict)

    def now(self) -> float:
        """Seconds since the run began."""
        return self._loop.time() - self._began

    async def go(self, sources: list[Source], seconds: float, seed: int = 1) -> list[Sent]:
        """Send all that is due within `seconds`, and wait for what was sent."""
        self._loop = asyncio.get_running_loop()
        self._pending = 0
        self._raw = {source.group: source.raw for source in sources}
        rng = random.Random(seed)
        moments = sorted(
            (one for source in sources for one in source.moments(seconds, rng)),
            key=lambda one: one[0],
        )
        self._began = self._loop.time() + 0.05
        for due, source in moments:
            wait_s = due - self.now()
            if wait_s > 0.0005:
                await asyncio.sleep(wait_s)
            self.lag_s.append(max(0.0, self.now() - due))
            self._start(Sent(due, source.group))
        ends_at = self.now() + 10.0
        while self._pending and self.now() < ends_at:
            await asyncio.sleep(0.01)
        for connection in self._idle:
            connection.close()
        return self.done

    async def closed(self, raw: bytes, clients: int, seconds: float) -> float:
        """Answers with 200 per second of so many clients that ask again at once."""
        self._loop = asyncio.get_running_loop()
        self._began, self._raw, self._pending = self._loop.time(), {"": raw}, 0
        self._refill = seconds
        for _ in range(clients):
            self._start(Sent(self.now(), ""))
        await asyncio.sleep(seconds)
        self._refill = 0.0
        while self._pending:
            await asyncio.sleep(0.01)
        warm_s = 0.3 * seconds
        good = [one.ended_at for one in self.done if one.status == 200]
        return sum(warm_s < ended_at <= seconds for ended_at in good) / (seconds - warm_s)

    _refill = 0.0

    def _start(self, sent: Sent) -> None:
        self._pending += 1
        sent.sent_at = self.now()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                connection.send(sent, self._raw[sent.group])
                return
        if self.open >= MAX_CONNECTIONS:
            self.ended(sent, None)
            return
        self.open += 1
        task = self._loop.create_task(self._connect(sent))
        task.add_done_callback(lambda _: None)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def _connect(self, sent: Sent) -> None:
        try:
            _, connection = await self._loop.create_connection(
                lambda: _Connection(self), self.host, self.port
            )
        except OSError:
            self.ended(sent, None)
            return
        connection.send(sent, self._raw[sent.group])

    def ended(self, sent: Sent, connection: _Connection | None) -> None:
        """A request has had its answer, or never will."""
        sent.ended_at = self.now()
        self._pending -= 1
        self.done.append(sent)
        if connection is not None and connection.is_open:
            self._idle.append(connection)
        else:
            self.open -= 1
        if sent.status != 200 and sent.attempt <= self.retries:
            again = Sent(sent.due, sent.group, attempt=sent.attempt + 1)
            self._pending += 1
            self._loop.call_later(self.retry_pause_s, self._again, again)
        if self._refill and self.now() < self._refill:
            self._start(Sent(self.now(), sent.group))

    def _again(self, sent: Sent) -> None:
        self._pending -= 1
        self._start(sent)


def quantile(values: list[float], share: float) -> float:
    """0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
