"""Keeps connections busy with requests, and tells a tally what became of each.

Closed loop: each connection sends when it is answered. Open loop: requests are planned at a fixed
rate; one that finds all connections busy is sent late, and its latency counts from the planned
moment. Callbacks on one loop; no task per request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from time import perf_counter

from marserve.bench.alarm import Alarm
from marserve.bench.connection import Connection, connect
from marserve.bench.endpoint import Endpoint
from marserve.bench.tally import Tally
from marserve.client import ServerUnreachable

NO_ANSWER = "no answer"
BROKEN = "connection broken"
NO_CONNECTION = "no connection"
_CONNECTING_AT_ONCE = 100
_RETRY_S = 0.05


class Load:
    """The load on one port. Use `async with`: it opens all connections, and closes them.

    `tally` may be replaced at any time; requests are counted where they are answered.

    Raises:
        ServerUnreachable: not all connections could be opened.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        messages: Sequence[bytes],
        connections: int,
        *,
        rate: float | None,
        timeout_s: float,
    ) -> None:
        self.tally = Tally()
        self.timeout_s = timeout_s
        self._endpoint = endpoint
        self._messages = cycle(messages)
        self._rate = rate
        self._seats = [_Seat(self) for _ in range(connections)]
        self._idle: deque[_Seat] = deque()
        self._lost: asyncio.Queue[_Seat] = asyncio.Queue()
        self._is_sending = False
        self._began_at = 0.0
        self._planned = 0
        self._under_way = 0
        self._all_answered = asyncio.Event()
        self._alarm: Alarm | None = None
        self._resources = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Load:
        try:
            await self._open()
        except BaseException:
            self._close()
            raise
        group = await self._resources.enter_async_context(asyncio.TaskGroup())
        tending = group.create_task(self._tend())
        self._resources.callback(tending.cancel)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_sending = False
        self._close()
        await self._resources.aclose()

    def start(self) -> None:
        """Begin to send."""
        self._is_sending = True
        self._began_at = perf_counter()
        if self._rate is not None:
            self._alarm = self._resources.enter_context(Alarm(self._send_what_is_due))
        for seat in self._seats:
            if seat.can_send:
                self._has_connection(seat, perf_counter())
            else:
                self._lost.put_nowait(seat)

    async def drain(self) -> None:
        """Send no more, and wait until what is under way is answered or has timed out."""
        self._is_sending = False
        while self._under_way:
            self._all_answered.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await self._all_answered.wait()
            self.check_time()

    def check_time(self) -> None:
        """Give up what has been under way for too long; to be called now and then."""
        now = perf_counter()
        for seat in self._seats:
            if seat.is_busy and now - seat.sent_at > self.timeout_s:
                self.tally.failure(NO_ANSWER, f"nothing came within {self.timeout_s:g} s")
                seat.give_up()
                self._is_free(seat)

    # --- what seats tell ---

    def answered(self, seat: _Seat, status: int, body: bytes) -> None:
        """The request of `seat` was answered."""
        now = perf_counter()
        self.tally.answered(status, body, seat.planned_at, seat.sent_at, now)
        self._is_free(seat)
        if seat.can_send:
            self._has_connection(seat, now)

    def lost(self, seat: _Seat, reason: str, was_busy: bool) -> None:
        """The connection of `seat` is gone, with the request that was under way, if any."""
        if was_busy:
            self.tally.failure(BROKEN, reason)
            self._is_free(seat)
        if self._is_sending:
            self._lost.put_nowait(seat)

    # --- sending ---

    def _send(self, seat: _Seat, planned_at: float) -> None:
        self._under_way += 1
        seat.send(next(self._messages), planned_at, perf_counter())

    def _send_what_is_due(self) -> None:
        rate = self._rate
        if rate is None or not self._is_sending:
            return
        now = perf_counter()
        while self._idle:
            planned_at = self._began_at + self._planned / rate
            if planned_at > now:
                if self._alarm is not None:
                    self._alarm.set(planned_at - now)
                return
            seat = self._idle.popleft()
            if seat.can_send and not seat.is_busy:  # else it was lost, and may be here twice
                self._planned += 1
                self._send(seat, planned_at)

    def _has_connection(self, seat: _Seat, now: float) -> None:
        if not self._is_sending:
            return
        if self._rate is None:
            self._send(seat, now)
        else:
            self._idle.append(seat)
            self._send_what_is_due()

    def _is_free(self, seat: _Seat) -> None:
        seat.is_busy = False
        self._under_way -= 1
        if not self._under_way:
            self._all_answered.set()

    # --- connections ---

    async def _open(self) -> None:
        for some in _groups(self._seats, _CONNECTING_AT_ONCE):
            opening = (seat.connect(self._endpoint) for seat in some)
            for error in await asyncio.gather(*opening, return_exceptions=True):
                if error is not None:
                    raise error

    async def _tend(self) -> None:
        """Connect anew what was lost."""
        while True:
            seat = await self._lost.get()
            try:
                await seat.connect(self._endpoint)
            except ServerUnreachable as error:
                self.tally.failure(NO_CONNECTION, error.message)
                self._lost.put_nowait(seat)
                await asyncio.sleep(_RETRY_S)
            else:
                self._has_connection(seat, perf_counter())

    def _close(self) -> None:
        for seat in self._seats:
            seat.give_up()


class _Seat:
    """A connection and what is under way on it; the connection may be replaced."""

    __slots__ = ("_connection", "_load", "is_busy", "keeps_bodies", "planned_at", "sent_at")

    def __init__(self, load: Load) -> None:
        self._load = load
        self._connection: Connection | None = None
        self.keeps_bodies = False
        self.is_busy = False
        self.planned_at = 0.0
        self.sent_at = 0.0

    @property
    def can_send(self) -> bool:
        return self._connection is not None and self._connection.is_open

    async def connect(self, endpoint: Endpoint) -> None:
        self._connection = await connect(endpoint, self)

    def send(self, message: bytes, planned_at: float, now: float) -> None:
        self.planned_at = planned_at
        self.sent_at = now
        self.is_busy = True
        if self._connection is not None:
            self._connection.send(message)

    def give_up(self) -> None:
        self.is_busy = False
        if self._connection is not None:
            self._connection.abort()

    def answered(self, status: int, body: bytes) -> None:
        if self.is_busy:
            self._load.answered(self, status, body)

    def lost(self, reason: str) -> None:
        self._connection = None
        self._load.lost(self, reason, self.is_busy)


def _groups(seats: Sequence[_Seat], size: int) -> Iterator[list[_Seat]]:
    remaining = iter(seats)
    while some := list(islice(remaining, size)):
        yield some
