"""What a gRPC port serves: methods by path, and in which of four ways each is written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeAlias

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from marserve.errors import InvalidInput
from marserve.events import Origin
from marserve.protocols.grpc_status import Plane
from marserve.protocols.terms import Terms


class Peer(Protocol):
    """A call, as far as a service may know it."""

    @property
    def origin(self) -> Origin:
        """Who calls what."""
        ...

    @property
    def deadline(self) -> float | None:
        """By when the client must have the answer, by the port's clock; None: it did not say."""
        ...

    @property
    def may_repeat(self) -> bool:
        """Whether the request may be executed again when a worker dies with it."""
        ...

    @property
    def terms(self) -> Terms | None:
        """What the client says of the call besides its content; None: nothing."""
        ...


class Asking(Peer, Protocol):
    """A call that waits for its one answer: exactly one of `reply` and `fail`, now or later."""

    on_gone: Callable[[], None] | None
    """Called if nobody waits any more."""

    def reply(self, message: Message) -> None:
        """The answer."""

    def fail(self, error: BaseException) -> None:
        """There is none."""


class Stream(Protocol):
    """Both directions of a call with many messages each way."""

    async def read(self) -> Message | None:
        """The next message; None when the client has sent its last one.

        Raises:
            InvalidInput: it is not what the service describes.
            CallRefused: it is too large, or cut off.
        """
        ...

    async def write(self, message: Message) -> None:
        """Send one message; waits while the client does not read."""
        ...


Direct: TypeAlias = Callable[[Any, Asking], None]
"""One message in, one out, by callback: no task is made."""
Unary: TypeAlias = Callable[[Any, Peer], Awaitable[Message]]
"""One message in, one out."""
Streaming: TypeAlias = Callable[[Any, Peer], AsyncGenerator[Message, None]]
"""One message in, several out."""
Conversing: TypeAlias = Callable[[Stream, Peer], Coroutine[Any, Any, None]]
"""Several messages in, several out."""


@dataclass(frozen=True, slots=True)
class ByCallback:
    """Marks a method that is served directly."""

    serve: Direct


Serve: TypeAlias = Unary | Streaming | Conversing | ByCallback


class Kind(Enum):
    """How a method is served."""

    DIRECT = "direct"
    UNARY = "unary"
    STREAMING = "streaming"
    CONVERSING = "conversing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Method:
    """One method."""

    path: str
    kind: Kind
    serve: Any
    request_type: type[Message]
    plane: Plane
    is_open: bool
    """Whether it needs no token."""

    def parse(self, raw: bytes) -> Message:
        """A request.

        Raises:
            InvalidInput: these bytes are none.
        """
        try:
            return self.request_type.FromString(raw)
        except DecodeError as error:
            raise InvalidInput(
                f"The request is not a {self.request_type.DESCRIPTOR.full_name} message."
            ) from error


def methods_of(
    service: ServiceDescriptor, serve: Mapping[str, Serve], plane: Plane, is_open: bool
) -> dict[str, Method]:
    """A service's methods by path; `serve` has each of them by name."""
    return {
        f"{service.full_name}/{one.name}": _method(
            f"{service.full_name}/{one.name}", one, serve[one.name], plane, is_open
        )
        for one in service.methods
    }


def unknown(path: str) -> Method:
    """What nobody serves."""
    return Method(path, Kind.UNKNOWN, None, Message, Plane.CONTROL, False)


def _method(
    path: str, described: MethodDescriptor, serve: Serve, plane: Plane, is_open: bool
) -> Method:
    kind = Kind.UNARY
    if isinstance(serve, ByCallback):
        kind = Kind.DIRECT
    elif described.client_streaming:
        kind = Kind.CONVERSING
    elif described.server_streaming:
        kind = Kind.STREAMING
    how = serve.serve if isinstance(serve, ByCallback) else serve
    return Method(path, kind, how, GetMessageClass(described.input_type), plane, is_open)
