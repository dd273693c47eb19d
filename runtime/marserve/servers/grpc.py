"""The gRPC ports: what they serve, with which limits, and how they start and stop.

Importing this module imports grpc, which takes a moment: only a server that opens gRPC ports
does. All of it runs on the event loop.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import grpc.aio

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
from marserve.servers.grpc_open_inference import OpenInferenceService
from marserve.servers.grpc_sequences import SequenceService
from marserve.servers.reservation import in_use

MAX_CALLS_PER_CONNECTION = 1000
"""Calls at one time on one connection; clients hold back what is more. A sequence is one call for
as long as it lasts, so this is also how many sequences a client may have open."""
MAX_CALLS = 5000
"""Calls at one time on one port; what is more gets RESOURCE_EXHAUSTED."""
MAX_METADATA_BYTES = 16 * 1024
_KEEPALIVE_MS = 120_000
"""A connection that is silent for so long is asked whether anybody is there."""
_KEEPALIVE_TIMEOUT_MS = 20_000
_FOREVER_MS = 2**31 - 1


class Certificate(Protocol):
    """What a port that speaks TLS shows (`tls.Tls`); looked at again with every connection."""

    @property
    def private_key_pem(self) -> bytes:
        """The private key."""
        ...

    @property
    def certificate_chain_pem(self) -> bytes:
        """The certificate, then those of its issuers."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What one port allows."""

    max_request_bytes: int
    max_connection_age_ms: int | None = None
    max_connection_age_grace_ms: int | None = None

    def options(self) -> list[tuple[str, Any]]:
        """The same, for the library."""
        options = {
            "grpc.so_reuseport": 0,  # a second server must not share the port unnoticed
            "grpc.max_receive_message_length": self.max_request_bytes,
            "grpc.max_send_message_length": -1,  # workers see to max_response_size
            "grpc.max_concurrent_streams": MAX_CALLS_PER_CONNECTION,
            "grpc.max_metadata_size": MAX_METADATA_BYTES,
            "grpc.absolute_max_metadata_size": MAX_METADATA_BYTES,
            "grpc.keepalive_time_ms": _KEEPALIVE_MS,
            "grpc.keepalive_timeout_ms": _KEEPALIVE_TIMEOUT_MS,
        }
        if self.max_connection_age_ms is not None:
            options["grpc.max_connection_age_ms"] = min(self.max_connection_age_ms, _FOREVER_MS)
        if self.max_connection_age_grace_ms is not None:
            grace_ms = min(self.max_connection_age_grace_ms, _FOREVER_MS)
            options["grpc.max_connection_age_grace_ms"] = grace_ms
        return list(options.items())


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
        self._server: Any = None
        host, port = sock.getsockname()[:2]
        self.host: str = host
        self.port: int = port

    @property
    def address(self) -> str:
        """`host:port`, as clients take it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def start(self) -> None:
        """Begin to answer. Call once.

        Raises:
            PortInUse: somebody took the port in spite of the reservation.
        """
        server = grpc.aio.server(options=self._limits.options(), maximum_concurrent_rpcs=MAX_CALLS)
        server.add_generic_rpc_handlers((self._calls,))
        try:
            self._open(server)
        except RuntimeError as error:
            raise in_use(self._name, self.host, self.port, "it is taken") from error
        finally:
            self._sock.close()
        await server.start()
        self._server = server

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let running ones end for `grace_s`, then cancel what is left."""
        self._sock.close()
        if self._server is None:
            return
        if self._on_stop is not None:
            self._on_stop()
        await self._server.stop(grace_s)
        if self._finish is not None:
            await self._finish()

    def _open(self, server: Any) -> None:
        if self._certificate is None:
            server.add_insecure_port(self.address)
        else:
            server.add_secure_port(self.address, _credentials(self._certificate))


def _credentials(certificate: Certificate) -> grpc.ServerCredentials:
    """The certificate as it is when a client connects: a renewed one needs no restart."""
    known = certificate.private_key_pem, certificate.certificate_chain_pem

    def renewed() -> Any:
        """Called for each handshake, in a thread of the library; None: nothing has changed."""
        nonlocal known
        now = certificate.private_key_pem, certificate.certificate_chain_pem
        if now == known:
            return None
        known = now
        return grpc.ssl_server_certificate_configuration([now])

    initial = grpc.ssl_server_certificate_configuration([known])
    return grpc.dynamic_ssl_server_credentials(initial, renewed)


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
) -> GrpcPort:
    """The port for predictions.

    `is_ready`: whether every model could answer now. `authorize`: None, or what refuses calls
    without a token.
    """
    closing = asyncio.Event()
    calls = Calls(bus, clock, authorize)
    predictor = Predictor(inference, bus, clock)
    one = InferenceService(predictor)
    sequences = SequenceService(predictor, config.header_key_sequence_id, closing)
    service = inference_pb2.DESCRIPTOR.services_by_name["InferenceAPIsService"]
    calls.add(
        service,
        {
            "Ping": one.ping,
            "Predictions": one.predictions,
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
