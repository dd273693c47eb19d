"""What every gRPC call goes through: token, message, the call itself, its status, its event.

A service gives coroutines by the names of its methods; its description (the `.proto`) says which
messages they take. Messages are parsed here, not by the library, which would call a broken one an
internal error of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from marserve.errors import InvalidInput
from marserve.events import Bus, GrpcAnswered
from marserve.protocols.grpc_status import (
    CallRefused,
    Code,
    Plane,
    failure,
    no_such_method,
)

Authorize: TypeAlias = Callable[[str | None], None]
"""Takes the value of `authorization`; raises TokenMissing or TokenRefused."""

Unary: TypeAlias = Callable[[Any, "Peer"], Awaitable[Message]]
"""One message in, one out."""
Streaming: TypeAlias = Callable[[Any, "Peer"], AsyncGenerator[Message, None]]
"""One message in, several out."""
Conversing: TypeAlias = Callable[["Stream", "Peer"], Coroutine[Any, Any, None]]
"""Several messages in, several out."""

_DEADLINE_SLACK_S = 0.1
"""A client whose deadline passes cancels; by our clock there may be a moment left then."""

STATUSES: Mapping[Code, grpc.StatusCode] = {
    Code(status.value[0]): status for status in grpc.StatusCode
}


@dataclass(frozen=True, slots=True)
class Peer:
    """Who calls what."""

    client: str
    """`host:port`."""
    path: str
    """`package.Service/Method`."""


class Stream:
    """Both directions of a call with many messages each way."""

    def __init__(self, request_type: type[Message], context: Any) -> None:
        self._request_type = request_type
        self._context = context

    async def read(self) -> Message | None:
        """The next message; None when the client has sent its last one.

        Raises:
            InvalidInput: it is not what the service describes.
        """
        raw = await self._context.read()
        return None if raw is grpc.aio.EOF else _parsed(self._request_type, raw)

    async def write(self, message: Message) -> None:
        """Send one message; waits while the client does not read."""
        await self._context.write(message.SerializeToString())


class Calls(grpc.GenericRpcHandler):
    """All methods of one port.

    Args:
        bus: hears of every call's end.
        clock: monotonic seconds.
        authorize: called for every call but those of `add(..., is_open=True)`; None: no tokens.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Callable[[], float],
        authorize: Authorize | None = None,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._authorize = authorize
        self._methods: dict[str, Any] = {}

    def add(
        self,
        service: ServiceDescriptor,
        methods: Mapping[str, Unary | Streaming | Conversing],
        plane: Plane,
        is_open: bool = False,
    ) -> None:
        """Serve a service; `methods` has each of its methods. `is_open`: it needs no token."""
        for method in service.methods:
            path = f"{service.full_name}/{method.name}"
            around = _Around(self, path, plane, is_open)
            self._methods["/" + path] = _handler(method, methods[method.name], around)

    def service(self, handler_call_details: Any) -> Any:
        """The handler of one call (`grpc.GenericRpcHandler`)."""
        method = handler_call_details.method
        return self._methods.get(method) or self._unknown(method)

    def _unknown(self, method: str) -> Any:
        """Answers what nobody serves as everything else is answered: with a token, and an event."""
        path = method.removeprefix("/")
        around = _Around(self, path, Plane.CONTROL, False)

        async def refuse(_stream: Stream, _peer: Peer) -> None:
            raise CallRefused(no_such_method(path))

        return grpc.stream_stream_rpc_method_handler(_conversing(refuse, Message, around))

    def check(self, context: Any) -> None:
        """Refuse a call without the token that this port asks for."""
        if self._authorize is not None:
            metadata = context.invocation_metadata() or ()
            given = (value for name, value in metadata if name == "authorization")
            self._authorize(next(given, None))

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock()

    def answered(self, peer: Peer, code: Code, started: float) -> None:
        """Tell the bus."""
        self._bus.publish(GrpcAnswered(peer.path, peer.client, code, self._clock() - started))


@dataclass(frozen=True, slots=True)
class _Around:
    """What surrounds each call of one method."""

    calls: Calls
    path: str
    plane: Plane
    is_open: bool

    @asynccontextmanager
    async def call(self, context: Any) -> AsyncIterator[Peer]:
        """Checks the token; makes a status of what is raised inside; publishes the outcome."""
        started = self.calls.now()
        peer = Peer(_client(context.peer()), self.path)
        code = Code.OK
        try:
            if not self.is_open:
                self.calls.check(context)
            yield peer
        except asyncio.CancelledError:  # the client went away, its deadline passed, or we stop
            left_s = context.time_remaining()
            is_late = left_s is not None and left_s <= _DEADLINE_SLACK_S
            code = Code.DEADLINE_EXCEEDED if is_late else Code.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001  every call gets a status
            told = failure(error, self.plane)
            code = told.code
            await context.abort(STATUSES[code], told.description)
        finally:
            self.calls.answered(peer, code, started)


def _handler(method: MethodDescriptor, serve: Any, around: _Around) -> Any:
    request_type = GetMessageClass(method.input_type)
    if method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(_conversing(serve, request_type, around))
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(_streaming(serve, request_type, around))
    return grpc.unary_unary_rpc_method_handler(_unary(serve, request_type, around))


def _unary(serve: Unary, request_type: type[Message], around: _Around) -> Any:
    async def answer(raw: bytes, context: Any) -> bytes:
        async with around.call(context) as peer:
            reply = await serve(_parsed(request_type, raw), peer)
            return reply.SerializeToString()
        raise AssertionError("abort() raises")

    return answer


def _streaming(serve: Streaming, request_type: type[Message], around: _Around) -> Any:
    async def answer(raw: bytes, context: Any) -> None:
        async with (
            around.call(context) as peer,
            aclosing(serve(_parsed(request_type, raw), peer)) as replies,
        ):
            async for reply in replies:
                await context.write(reply.SerializeToString())

    return answer


def _conversing(serve: Conversing, request_type: type[Message], around: _Around) -> Any:
    async def answer(_requests: object, context: Any) -> None:
        async with around.call(context) as peer:
            await serve(Stream(request_type, context), peer)

    return answer


def _parsed(message_type: type[Message], raw: bytes) -> Message:
    try:
        return message_type.FromString(raw)
    except DecodeError as error:
        raise InvalidInput(
            f"The request is not a {message_type.DESCRIPTOR.full_name} message."
        ) from error


def _client(peer: str) -> str:
    """`ipv4:127.0.0.1:4711` and `ipv6:%5B::1%5D:4711` -> `127.0.0.1:4711`, `[::1]:4711`."""
    return peer.partition(":")[2].replace("%5B", "[").replace("%5D", "]") or peer
