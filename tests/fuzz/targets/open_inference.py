"""F-TENSOR: bytes as a request of the Open Inference Protocol, and a handler's reply to one: JSON,
a message, or an error with a kind."""

import contextlib
import json

from google.protobuf.message import DecodeError

from marserve.errors import MarServeError
from marserve.protocols.grpc_open_inference import body, response
from marserve.protocols.grpc_status import CallRefused
from marserve.protocols.grpc_tensors import FIELDS
from marserve.protocols.pb.open_inference_grpc_pb2 import ModelInferRequest


def _request(datatype: str, shape: list[int], raw: bytes) -> bytes:
    made = ModelInferRequest(model_name="m", id="1", raw_input_contents=[raw])
    made.inputs.add(name="x", datatype=datatype, shape=shape)
    return made.SerializeToString()


def _reply(**output: object) -> bytes:
    return json.dumps({"id": "1", "outputs": [{"name": "y"} | output]}).encode()


SEEDS = [
    *(_request(datatype, [2, 2], bytes(range(32))) for datatype in FIELDS),
    _request("FP32", [-1, -1], b"abcd"),
    _request("FP32", [2**62] * 200, b"abcd"),
    _request("FP16", [0, 2**62], b""),
    _request("BYTES", [2], b"\1\0\0\0a\0\0\0\0"),
    ModelInferRequest(model_name="m").SerializeToString(),
    b"\x0a\xff\xff\xff\xff\x0f",
    _reply(datatype="FP32", shape=[2], data=[1.5, 2]),
    _reply(datatype="BYTES", shape=[1], data=["\ud800"]),
    _reply(datatype="INT8", shape=[1e999], data=[[[400]]]),
    b'{"outputs":' + b"[" * 500,
]


def one_input(data: bytes) -> None:
    """Raises if anything but an error with a kind comes of it."""
    try:
        request = ModelInferRequest.FromString(data)
    except DecodeError:
        request = ModelInferRequest(model_name="m")
    with contextlib.suppress(MarServeError, CallRefused):
        json.loads(body(request))
    with contextlib.suppress(MarServeError, CallRefused):
        response(request, data).SerializeToString()
