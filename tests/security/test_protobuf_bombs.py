"""SEC-23: messages that nest without end are refused by a word, and harm nothing."""

import pytest

from marserve.errors import InvalidInput
from marserve.protocols.grpc_status import Plane
from marserve.protocols.pb import inference_pb2, management_pb2, open_inference_grpc_pb2
from marserve.servers.grpc_methods import methods_of

SERVICES = [
    inference_pb2.DESCRIPTOR.services_by_name["InferenceAPIsService"],
    management_pb2.DESCRIPTOR.services_by_name["ManagementAPIsService"],
    open_inference_grpc_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"],
]
METHODS = [
    (method.path, method)
    for service in SERVICES
    for method in methods_of(
        service, {one.name: print for one in service.methods}, Plane.CONTROL, False
    ).values()
]
BOMBS = {
    "groups that are never closed": b"\xfb\x07" * 200_000,
    "groups that are closed": b"\xfb\x07" * 100_000 + b"\xfc\x07" * 100_000,
    "a length beyond the end": b"\xfa\x07\xff\xff\xff\xff\x0f",
    "a length of ten bytes": b"\xfa\x07" + b"\xff" * 10,
    "a number of eleven bytes": b"\xf8\x07" + b"\xff" * 11,
    "an end without a beginning": b"\xfc\x07",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_no_message_of_any_method(bomb):
    for path, method in METHODS:
        with pytest.raises(InvalidInput, match="is not a"):
            method.parse(bomb)
        assert path
