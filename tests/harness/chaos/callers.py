"""Clients that ask without a pause, and book for each request what became of it.

Made for servers that stop, restart or change versions meanwhile. A request counts as accepted once
its connection is there; one that the server refused to connect was never lost.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from marserve.protocols.pb import inference_pb2

OK = "ok"
REFUSED = "refused in words"
"""503 with Retry-After, or UNAVAILABLE with the server's own words."""
NOT_ACCEPTED = "not accepted"
"""There was nobody to connect to."""
RESET = "reset"
CUT = "cut"
"""The connection ended without an answer, and without having said that it would."""
PARTED = "parted"
"""The same on a connection that had been idle: HTTP/1.1 has no word for that, and a client may
repeat its request."""
WRONG = "wrong"
_METHOD = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
_UNCONNECTED = ("failed to connect", "connection refused", "connections to all backends")


@dataclass(slots=True)
class Books:
    """What became of all requests."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    latencies_s: list[tuple[float, float]] = field(default_factory=list)
    """Of successes: when they were sent, and how long they took."""
    answers: list[tuple[float, float, bytes]] = field(default_factory=list)
    """When each success was sent and was there, and its body."""

    def add(self, outcome: str, example: object = "") -> None:
        self.counts[outcome] += 1
        self.examples.setdefault(outcome, str(example)[:200])

    def lost(self) -> int:
        """Accepted requests that had no answer, or a wrong one."""
        return sum(self.counts[one] for one in (RESET, CUT, WRONG))

    def __str__(self) -> str:
        told = {
            one: self.examples.get(one)
            for one in (RESET, CUT, WRONG, PARTED, NOT_ACCEPTED)
            if self.counts[one]
        }
        return f"{dict(self.counts)} {told or ''}"


class Callers:
    """Clients of one model over HTTP, with and without keep-alive, and over gRPC."""

    def __init__(
        self,
        http: tuple[str, int],
        grpc_address: str | None,
        path: str = "/predictions/echo",
        model: str = "echo",
        *,
        body: bytes = b"x",
        ends_with_the_server: bool = True,
        keeps_answers: bool = False,
        pause_s: float = 0.0,
    ) -> None:
        """`ends_with_the_server`: a client that finds nobody there asks no more."""
        self.books = Books()
        self._http = http
        self._grpc = grpc_address
        self._path = path
        self._model = model
        self._body = body
        self._ends = ends_with_the_server
        self._keeps_answers = keeps_answers
        self._pause_s = pause_s
        self._is_over = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, fresh: int, kept: int, calls: int = 0) -> None:
        """So many clients that connect for each request, that stay connected, and of gRPC."""
        kinds = [self._one_fresh] * fresh + [self._one_kept] * kept + [self._one_call] * calls
        self._tasks = [asyncio.create_task(kind()) for kind in kinds]

    async def finish(self, within_s: float = 60.0) -> Books:
        """Ask no more, and wait for what is under way."""
        self._is_over = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=within_s)
            for task in late:
                task.cancel()
                self.books.add(CUT, "no answer at all")
            for task in self._tasks:
                if task.done() and not task.cancelled() and task.exception() is not None:
                    raise task.exception()  # type: ignore[misc]  # it is there
        return self.books

    # --- HTTP ---

    async def _one_fresh(self) -> None:
        while not self._is_over:
            connection = await self._connected()
            if connection is None:
                if self._ends:
                    return
                continue
            await self._ask(*connection, is_used=False, keep_alive=False)
            connection[1].close()
            await asyncio.sleep(self._pause_s)

    async def _one_kept(self) -> None:
        connection = None
        while not self._is_over:
            is_used = connection is not None
            connection = connection or await self._connected()
            if connection is None:
                if self._ends:
                    return
                continue
            if not await self._ask(*connection, is_used=is_used, keep_alive=True):
                connection[1].close()
                connection = None
            await asyncio.sleep(self._pause_s)
        if connection is not None:
            connection[1].close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        try:
            return await asyncio.open_connection(*self._http)
        except OSError as error:
            self.books.add(NOT_ACCEPTED, error)
            await asyncio.sleep(0.01)
            return None

    async def _ask(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        is_used: bool,
        keep_alive: bool,
    ) -> bool:
        """One request and its answer; whether there may be another one."""
        connection = b"keep-alive" if keep_alive else b"close"
        sent_s = time.monotonic()
        writer.write(
            b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: %s\r\nContent-Length: %d\r\n\r\n%s"
            % (self._path.encode(), connection, len(self._body), self._body)
        )
        head = b""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = _fields(head)
            body = await reader.readexactly(int(fields[b"content-length"]))
        except ConnectionError as error:
            self.books.add(RESET, error)
            return False
        except (asyncio.IncompleteReadError, KeyError) as error:
            is_silent = is_used and not head and not getattr(error, "partial", b"")
            self.books.add(PARTED if is_silent else CUT, repr(error))
            return False
        self._book_http(int(head.split(b" ", 2)[1]), fields, body, sent_s)
        return fields.get(b"connection", b"keep-alive").lower() != b"close"

    def _book_http(
        self, status: int, fields: dict[bytes, bytes], body: bytes, sent_s: float
    ) -> None:
        if status == 200:
            self._book_ok(sent_s, body)
        elif status == 503 and b"retry-after" in fields:
            self.books.add(REFUSED, body)
        else:
            self.books.add(WRONG, (status, body))

    def _book_ok(self, sent_s: float, body: bytes) -> None:
        now = time.monotonic()
        self.books.add(OK)
        self.books.latencies_s.append((sent_s, now - sent_s))
        if self._keeps_answers:
            self.books.answers.append((sent_s, now, body))

    # --- gRPC ---

    async def _one_call(self) -> None:
        assert self._grpc is not None
        options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._grpc, options=options) as channel:
            call: Any = channel.unary_unary(
                _METHOD,
                request_serializer=inference_pb2.PredictionsRequest.SerializeToString,
                response_deserializer=inference_pb2.PredictionResponse.FromString,
            )
            request = inference_pb2.PredictionsRequest(
                model_name=self._model, input={"body": self._body}
            )
            while not self._is_over and await self._called(call, request):
                await asyncio.sleep(self._pause_s)

    async def _called(self, call: Any, request: Any) -> bool:
        sent_s = time.monotonic()
        try:
            reply = await call(request, timeout=60.0)
        except grpc.aio.AioRpcError as error:
            text = f"{error.code().name}: {error.details()}"
            if any(word in text.lower() for word in _UNCONNECTED):
                self.books.add(NOT_ACCEPTED, text)
                await asyncio.sleep(0.01)
                return not self._ends
            if error.code() is grpc.StatusCode.UNAVAILABLE and "being" in text:
                self.books.add(REFUSED, text)
            else:
                self.books.add(RESET if "reset" in text.lower() else CUT, text)
            return True
        self._book_ok(sent_s, reply.prediction)
        return True


def _fields(head: bytes) -> dict[bytes, bytes]:
    lines = [line.split(b":", 1) for line in head.split(b"\r\n")[1:] if line]
    return {name.lower(): value.strip() for name, value in lines}
