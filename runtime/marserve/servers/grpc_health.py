"""The health service that Kubernetes, Envoy and load balancers ask (`grpc.health.v1`).

Its messages are made here, in a descriptor pool of their own: generated code would clash with the
`grpcio-health-checking` of whoever imports both. `Watch` is left out, as the protocol allows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from marserve.protocols.grpc_status import CallRefused, Code, Failure
from marserve.servers.grpc_methods import Peer

_SERVING, _NOT_SERVING = 1, 2


def _described() -> ServiceDescriptor:
    file = FileDescriptorProto(
        name="grpc/health/v1/health.proto", package="grpc.health.v1", syntax="proto3"
    )
    optional = FieldDescriptorProto.LABEL_OPTIONAL
    file.message_type.add(name="HealthCheckRequest").field.add(
        name="service", number=1, type=FieldDescriptorProto.TYPE_STRING, label=optional
    )
    answer = file.message_type.add(name="HealthCheckResponse")
    states = answer.enum_type.add(name="ServingStatus")
    for number, state in enumerate(("UNKNOWN", "SERVING", "NOT_SERVING")):
        states.value.add(name=state, number=number)
    answer.field.add(
        name="status",
        number=1,
        type=FieldDescriptorProto.TYPE_ENUM,
        type_name=".grpc.health.v1.HealthCheckResponse.ServingStatus",
        label=optional,
    )
    file.service.add(name="Health").method.add(
        name="Check",
        input_type=".grpc.health.v1.HealthCheckRequest",
        output_type=".grpc.health.v1.HealthCheckResponse",
    )
    pool = DescriptorPool()
    pool.Add(file)
    return pool.FindServiceByName("grpc.health.v1.Health")


HEALTH = _described()
_Answer = GetMessageClass(HEALTH.methods_by_name["Check"].output_type)


class HealthService:
    """Serves Check.

    Args:
        services: what may be asked about, and how it is. By custom the empty name is the server
            itself (a liveness probe asks for it), the others are services (readiness).
    """

    def __init__(self, services: Mapping[str, Callable[[], bool]]) -> None:
        self._services = services

    async def check(self, request: Any, _peer: Peer) -> Any:
        """SERVING or NOT_SERVING."""
        is_well = self._services.get(request.service)
        if is_well is None:
            raise CallRefused(
                Failure(Code.NOT_FOUND, f"There is no service {request.service} on this port.")
            )
        return _Answer(status=_SERVING if is_well() else _NOT_SERVING)
