"""A gRPC client's stub, made of a service's description: one attribute per method."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from marserve.protocols.pb import inference_pb2, management_pb2, open_inference_grpc_pb2

INFERENCE = inference_pb2.DESCRIPTOR.services_by_name["InferenceAPIsService"]
MANAGEMENT = management_pb2.DESCRIPTOR.services_by_name["ManagementAPIsService"]
OPEN_INFERENCE = open_inference_grpc_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]


class Stub:
    """What generated client code makes of a channel; for channels of grpc and of grpc.aio."""

    def __init__(self, channel: Any, service: ServiceDescriptor) -> None:
        for method in service.methods:
            sent = "stream" if method.client_streaming else "unary"
            received = "stream" if method.server_streaming else "unary"
            call = getattr(channel, f"{sent}_{received}")(
                f"/{service.full_name}/{method.name}",
                request_serializer=GetMessageClass(method.input_type).SerializeToString,
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            setattr(self, method.name, call)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the service has no method {name}")
