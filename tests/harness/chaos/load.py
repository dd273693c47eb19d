"""Makes requests and has them booked: closed loop, open loop, HTTP and gRPC, on one event loop.

A closed loop sends again when its answer has come; an open loop sends at planned moments, whether
or not the server keeps up, and its latencies count from those moments.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterator

import grpc
import grpc.aio

from chaos.asks import Ask
from chaos.http_client import HttpClient
from chaos.ledger import BROKEN, GONE, GRPC, Ledger
from marserve.protocols.pb import inference_pb2

_METHOD = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
_MAX_BYTES = 64 * 1024 * 1024
Address = tuple[str, int]


class ClosedLoop:
    """HTTP clients, each with a connection of its own and one request after the other.

    Args:
        pause_s: how long each rests between an answer and its next request.
    """

    def __init__(
        self,
        ledger: Ledger,
        address: Address,
        model: str,
        asks: Iterator[Ask],
        pause_s: float = 0.0,
        limit: int | None = None,
    ) -> None:
        self._ledger = ledger
        self._address = address
        self._target = f"/predictions/{model}"
        self._asks = asks
        self._pause_s = pause_s
        self._left = limit
        self._loop = asyncio.get_running_loop()
        self._clients: set[HttpClient] = set()
        self._dialling: set[asyncio.Task[None]] = set()
        self._is_ending = False
        self._ended = asyncio.Event()

    async def start(self, clients: int) -> None:
        for _ in range(clients):
            await self._dial()

    async def _dial(self) -> None:
        """A client; when its connection ends it gets another, as a real one would."""
        while not self._is_ending:
            with contextlib.suppress(OSError):
                _, client = await self._loop.create_connection(self._client, *self._address)
                self._clients.add(client)
                return
            await asyncio.sleep(0.05)

    def _client(self) -> HttpClient:
        return HttpClient(self._ledger, self._target, self._free, self._closed)

    def _free(self, client: HttpClient) -> None:
        if self._pause_s:
            self._loop.call_later(self._pause_s, self._next, client)
        else:
            # not at once: a client that is answered from its own call would never let others run
            self._loop.call_soon(self._next, client)

    def _next(self, client: HttpClient) -> None:
        if not client.is_open or client.id is not None:
            return
        if self._left is not None:
            if self._left <= 0:
                self._is_ending = True
            self._left -= 1
        if self._is_ending:
            client.close()
            return
        ask = next(self._asks)
        id_ = self._ledger.plan(self._ledger.kind(ask.kind), time.monotonic())
        client.send(id_, ask)

    def _closed(self, client: HttpClient) -> None:
        self._clients.discard(client)
        if not self._is_ending:
            task = self._loop.create_task(self._dial())
            self._dialling.add(task)
            task.add_done_callback(self._dialling.discard)
        elif not self._clients:
            self._ended.set()

    async def finish(self, within_s: float = 30.0) -> None:
        """Send no more; wait for what is under way. What is not answered stays open."""
        self._is_ending = True
        for client in list(self._clients):
            if client.id is None:
                client.close()
        if self._dialling:
            await asyncio.wait(set(self._dialling), timeout=within_s)
        if self._clients:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), within_s)
        await _forsake(self._clients)

    async def give_up(self, after_s: float) -> None:
        """Send no more after a while; hang up on whatever is not answered by then."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), after_s)
        self._is_ending = True
        for client in list(self._clients):
            client.hang_up()
        await self.finish(1.0)

    async def used_up(self, within_s: float) -> None:
        """Wait until `limit` requests were sent and answered."""
        await asyncio.wait_for(self._ended.wait(), within_s)


class OpenLoop:
    """HTTP requests at `per_s`, evenly; as many connections as it takes, up to a limit."""

    def __init__(
        self,
        ledger: Ledger,
        address: Address,
        model: str,
        asks: Iterator[Ask],
        per_s: float,
        max_connections: int = 512,
    ) -> None:
        self._ledger = ledger
        self._address = address
        self._target = f"/predictions/{model}"
        self._asks = asks
        self._step_s = 1.0 / per_s
        self._room = max_connections
        self._loop = asyncio.get_running_loop()
        self._free: deque[HttpClient] = deque()
        self._waiting: deque[tuple[int, Ask]] = deque()
        self._open: set[HttpClient] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_ending = False

    async def start(self) -> None:
        self._due = time.monotonic()
        self._tick()

    def _tick(self) -> None:
        if self._is_ending:
            return
        now = time.monotonic()
        while self._due <= now:
            ask = next(self._asks)
            id_ = self._ledger.plan(self._ledger.kind(ask.kind), self._due)
            self._due += self._step_s
            self._waiting.append((id_, ask))
        self._send_waiting()
        self._loop.call_later(max(0.0005, self._due - time.monotonic()), self._tick)

    def _send_waiting(self) -> None:
        while self._waiting and self._free:
            client = self._free.popleft()  # the one that has rested longest: none gets stale
            if client.is_open:
                client.send(*self._waiting.popleft())
        while len(self._waiting) > len(self._tasks) and self._room > 0:
            self._room -= 1
            task = self._loop.create_task(self._dial())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _dial(self) -> None:
        try:
            _, client = await self._loop.create_connection(self._client, *self._address)
            self._open.add(client)
        except OSError as error:
            self._room += 1
            if self._waiting:
                id_, _ = self._waiting.popleft()
                reason = f"connect: {type(error).__name__}"
                self._ledger.ended(id_, BROKEN, reason, time.monotonic())

    def _client(self) -> HttpClient:
        return HttpClient(self._ledger, self._target, self._freed, self._closed)

    def _freed(self, client: HttpClient) -> None:
        self._free.append(client)
        self._loop.call_soon(self._send_waiting)

    def _closed(self, client: HttpClient) -> None:
        self._open.discard(client)
        self._room += 1

    async def finish(self, within_s: float = 30.0) -> None:
        """Plan no more; wait for what is under way. What is not answered stays open."""
        self._is_ending = True
        until = time.monotonic() + within_s
        while self._waiting or any(client.id is not None for client in self._open):
            if time.monotonic() > until:
                break
            await asyncio.sleep(0.01)
        await _forsake(self._open)


async def _forsake(clients: set[HttpClient]) -> None:
    """End all connections. A loop that is closed with open ones (uvloop's) may hang."""
    for client in list(clients):
        client.forsake()
    while clients:
        await asyncio.sleep(0.001)


class GrpcLoop:
    """gRPC clients in a closed loop, with grpcio: an implementation that is not ours."""

    def __init__(
        self,
        ledger: Ledger,
        address: str,
        model: str,
        asks: Iterator[Ask],
        pause_s: float = 0.0,
    ) -> None:
        self._ledger = ledger
        self._model = model
        self._asks = asks
        self._pause_s = pause_s
        self._is_ending = False
        self._tasks: list[asyncio.Task[None]] = []
        self._channel = grpc.aio.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", _MAX_BYTES),
                ("grpc.enable_retries", 0),  # a retry of the library would hide what happened
            ],
        )
        self._call = self._channel.unary_unary(
            _METHOD,
            request_serializer=inference_pb2.PredictionsRequest.SerializeToString,
            response_deserializer=inference_pb2.PredictionResponse.FromString,
        )

    async def start(self, clients: int) -> None:
        self._tasks = [asyncio.create_task(self._client()) for _ in range(clients)]

    async def _client(self) -> None:
        while not self._is_ending:
            ask = next(self._asks)
            id_ = self._ledger.plan(self._ledger.kind(ask.kind), time.monotonic())
            await self._one(id_, ask)
            if self._pause_s:
                await asyncio.sleep(self._pause_s)

    async def _one(self, id_: int, ask: Ask) -> None:
        request = inference_pb2.PredictionsRequest(
            model_name=self._model, input={"body": ask.body(id_)}
        )
        metadata = None if ask.may_retry else (("x-no-retry", "1"),)
        timeout_s = None if ask.timeout_ms is None else ask.timeout_ms / 1000.0
        self._ledger.sent(id_, time.monotonic())
        try:
            reply = await self._call(request, metadata=metadata, timeout=timeout_s)
            status, body = 200, reply.prediction
        except grpc.aio.AioRpcError as error:
            status = GRPC + error.code().value[0]
            body = (error.details() or "").encode()
        except asyncio.CancelledError:
            self._ledger.ended(id_, GONE, "cancelled", time.monotonic())
            raise
        self._ledger.answered(id_, status, body, 0.0, time.monotonic())

    async def finish(self, within_s: float = 30.0) -> None:
        """Send no more; wait for what is under way. What is not answered stays open."""
        self._is_ending = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=within_s)
            for task in late:
                task.cancel()
        await self._channel.close()
