"""The gRPC ports: what they serve, with which limits, and how they start and stop.

Importing this module imports protobuf, which takes a moment: only a server that opens gRPC ports
does. All of it runs on the event loop.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from marserve import __version__
from marserve.config import Config
from marserve.events import Bus
from marserve.inference import Inference
from marserve.protocols.grpc_status import Plane
from marserve.protocols.pb import inference_pb2, management_pb2, open_inference_grpc_pb2
from marserve.servers.control_plane import ControlPlane
from marserve.servers.grpc_calls import Authorize, Calls
from marserve.servers.grpc_health import HEALTH, HealthService
from marserve.servers.grpc_inference import InferenceService, Predictor
from marserve.servers.grpc_management import ManagementService
from marserve.servers.grpc_methods import ByCallback
from marserve.servers.grpc_open_inference import OpenInferenceService
from marserve.servers.grpc_sequences import SequenceService
from marserve.servers.grpc_server import GrpcServer
from marserve.servers.h2_tls import Certificate, RenewedContext
from marserve.servers.reservation import in_use
from marserve.servers.room import Room


@dataclass(frozen=True, slots=True)
class Limits:
    """What one port allows."""

    max_request_bytes: int
    max_connection_age_ms: int | None = None
    max_connection_age_grace_ms: int | None = None


class GrpcPort:
    """One gRPC server on one reserved socket (`reservation.reserved`), which it owns.

    Args:
        name: how the port's settings begin: grpc_inference or grpc_management.
        sock: bound, not listening.
        calls: what is served.
        limits: what is allowed.
        certificate: for TLS; None: without.
        on_stop: called when the port begins to stop.
        finish: awaited when all calls are over.
    """

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        calls: Calls,
        limits: Limits,
        certificate: Certificate | None = None,
        on_stop: Callable[[], None] | None = None,
        finish: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._name = name
        self._sock = sock
        self._calls = calls
        self._limits = limits
        self._certificate = certificate
        self._on_stop = on_stop
        self._finish = finish
        self._server: GrpcServer | None = None
        self.room: Room | None = None
        """Where connections need a place; set before the start. None: there is always one."""
        host, port = sock.getsockname()[:2]
        self.host: str = host
        self.port: int = port

    @property
    def methods(self) -> frozenset[str]:
        """What is served, as `package.Service/Method`."""
        return self._calls.paths

    @property
    def address(self) -> str:
        """`host:port`, as clients take it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def start(self) -> None:
        """Begin to answer. Call once.

        Raises:
            PortInUse: somebody took the port in spite of the reservation.
        """
        self._calls.max_message_bytes = self._limits.max_request_bytes
        server = GrpcServer(
            self._calls,
            None if self._certificate is None else RenewedContext(self._certificate),
            max_age_s=_seconds(self._limits.max_connection_age_ms),
            max_age_grace_s=_seconds(self._limits.max_connection_age_grace_ms),
            room=self.room,
        )
        try:
            await server.start(self._sock)
        except OSError as error:
            self._sock.close()
            raise in_use(self._name, self.host, self.port, "it is taken") from error
        self._server = server

    async def stop(self, grace_s: float, *, is_shared: bool = False) -> None:
        """Take no new calls, let running ones end for `grace_s`, then cancel what is left."""
        await self.drain(grace_s, is_shared=is_shared)
        await self.cut()

    async def drain(self, grace_s: float, *, is_shared: bool = False) -> None:
        """Take no new calls, and wait until running ones have ended, `grace_s` at most.

        `is_shared`: another process goes on with the listening socket.
        """
        if self._server is None:
            self._sock.close()
            return
        if self._on_stop is not None:
            self._on_stop()
        await self._server.drain(grace_s, is_shared=is_shared)

    async def cut(self) -> None:
        """Refuse what is left, and close all connections."""
        if self._server is None:
            return
        await self._server.cut()
        if self._finish is not None:
            await self._finish()


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def inference_port(
    sock: socket.socket,
    inference: Inference,
    is_ready: Callable[[], bool],
    plane: ControlPlane,
    bus: Bus,
    clock: Callable[[], float],
    config: Config,
    authorize: Authorize | None = None,
    certificate: Certificate | None = None,
    trusts_clients: bool = False,
) -> GrpcPort:
    """The port for predictions.

    `is_ready`: whether every model could answer now. `authorize`: None, or what refuses calls
    without a token. `trusts_clients`: whether to believe how urgent clients call their calls.
    """
    closing = asyncio.Event()
    calls = Calls(bus, clock, authorize, trusts_clients)
    predictor = Predictor(inference, clock)
    one = InferenceService(predictor)
    sequences = SequenceService(predictor, config.header_key_sequence_id, closing)
    service = inference_pb2.DESCRIPTOR.services_by_name["InferenceAPIsService"]
    calls.add(
        service,
        {
            "Ping": one.ping,
            "Predictions": ByCallback(one.predictions),
            "StreamPredictions": one.stream_predictions,
            "StreamPredictions2": sequences.stream_predictions,
        },
        Plane.PREDICTION,
    )
    services = [service.full_name]
    if config.open_inference_protocol:
        services.append(_add_open_inference(calls, predictor, is_ready, plane))
    _add_health(calls, inference.is_healthy, is_ready, services)
    limits = Limits(
        config.max_request_bytes,
        config.grpc_inference_max_connection_age_ms,
        config.grpc_inference_max_connection_age_grace_ms,
    )
    return GrpcPort("grpc_inference", sock, calls, limits, certificate, on_stop=closing.set)


def management_port(
    sock: socket.socket,
    plane: ControlPlane,
    bus: Bus,
    clock: Callable[[], float],
    config: Config,
    authorize: Authorize | None = None,
    certificate: Certificate | None = None,
) -> GrpcPort:
    """The port for management. `authorize`: None, or what refuses calls without a token."""
    calls = Calls(bus, clock, authorize)
    one = ManagementService(plane, config.enable_model_api)
    service = management_pb2.DESCRIPTOR.services_by_name["ManagementAPIsService"]
    calls.add(
        service,
        {
            "DescribeModel": one.describe,
            "ListModels": one.list_models,
            "RegisterModel": one.register,
            "ScaleWorker": one.scale,
            "SetDefault": one.set_default,
            "UnregisterModel": one.unregister,
        },
        Plane.CONTROL,
    )
    _add_health(calls, lambda: True, lambda: True, [service.full_name])
    limits = Limits(
        config.max_request_bytes,
        config.grpc_management_max_connection_age_ms,
        config.grpc_management_max_connection_age_grace_ms,
    )
    return GrpcPort("grpc_management", sock, calls, limits, certificate, finish=one.finished)


def _add_open_inference(
    calls: Calls, predictor: Predictor, is_ready: Callable[[], bool], plane: ControlPlane
) -> str:
    one = OpenInferenceService(predictor, is_ready, plane.describe, __version__)
    service = open_inference_grpc_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    calls.add(
        service,
        {
            "ServerLive": one.server_live,
            "ServerReady": one.server_ready,
            "ModelReady": one.model_ready,
            "ServerMetadata": one.server_metadata,
            "ModelMetadata": one.model_metadata,
            "ModelInfer": one.model_infer,
        },
        Plane.PREDICTION,
    )
    return str(service.full_name)


def _add_health(
    calls: Calls,
    is_healthy: Callable[[], bool],
    is_ready: Callable[[], bool],
    services: list[str],
) -> None:
    """Probes carry no tokens, and learn nothing that needs one."""
    health = HealthService({"": is_healthy} | dict.fromkeys(services, is_ready))
    calls.add(HEALTH, {"Check": health.check}, Plane.CONTROL, is_open=True)
