"""All methods of one gRPC port, the calls that run, and what they have in common.

A service gives functions by the names of its methods; its description (the `.proto`) says which
messages they take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from google.protobuf.descriptor import ServiceDescriptor

from marserve.events import Bus, GrpcAnswered, GrpcCallsAnswered, Origin
from marserve.protocols.grpc_heads import CallHead
from marserve.protocols.grpc_status import Code, Plane
from marserve.protocols.h2_frames import ErrorCode
from marserve.servers.grpc_call import CallKind, GrpcCall
from marserve.servers.grpc_methods import Method, Serve, methods_of, unknown
from marserve.servers.h2_streams import H2Streams

Authorize: TypeAlias = Callable[[str | None], None]
"""Takes the value of `authorization`; raises TokenMissing or TokenRefused."""

GRPC: Final = "gRPC"


class Calls:
    """All methods of one port.

    Args:
        bus: hears of every call's end.
        clock: monotonic seconds.
        authorize: called for every call but those of `add(..., is_open=True)`; None: no tokens.
        trusts_clients: whether to believe how urgent clients call their calls, and who they are.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Callable[[], float],
        authorize: Authorize | None = None,
        trusts_clients: bool = False,
    ) -> None:
        self.clock = clock
        self.max_message_bytes = 0
        """What one request may have; set by the port."""
        self.tasks: set[asyncio.Task[None]] = set()
        """Of the calls that have one."""
        self._bus = bus
        self._authorize = authorize
        self._trusts_clients = trusts_clients
        self._methods: dict[str, Method] = {}
        self._answered: list[GrpcAnswered] = []
        self.running = 0
        """How many calls are being served."""

    @property
    def paths(self) -> frozenset[str]:
        """Every method that is served, as `package.Service/Method`."""
        return frozenset(self._methods)

    def add(
        self,
        service: ServiceDescriptor,
        methods: Mapping[str, Serve],
        plane: Plane,
        is_open: bool = False,
    ) -> None:
        """Serve a service; `methods` has each of its methods. `is_open`: it needs no token."""
        self._methods |= methods_of(service, methods, plane, is_open)

    def open(self, connection: H2Streams, stream_id: int, head: CallHead) -> GrpcCall | ErrorCode:
        """A new call, or why there is none."""
        if head.is_malformed:
            return ErrorCode.PROTOCOL_ERROR
        kind = head.known
        if not isinstance(kind, CallKind):
            method = self._methods.get(head.path) or unknown(head.path)
            origin = Origin(GRPC, head.path, connection.client)
            is_guarded = self._authorize is not None
            kind = CallKind(head, method, origin, is_guarded, self._trusts_clients)
            head.known = kind
        return GrpcCall(self, connection, stream_id, kind)

    def check(self, authorization: str | None) -> None:
        """Refuse a call without the token that this port asks for.

        Raises:
            TokenMissing, TokenRefused: it is refused.
        """
        if self._authorize is not None:
            self._authorize(authorization)

    def answered(self, origin: Origin, code: Code, started: float) -> None:
        """Tell the bus how a call has ended, with all others of this turn of the loop."""
        if not self._answered:
            asyncio.get_running_loop().call_soon(self._publish)
        self._answered.append(GrpcAnswered(origin, code, self.clock() - started))

    def _publish(self) -> None:
        answered, self._answered = self._answered, []
        self._bus.publish(GrpcCallsAnswered(answered))
