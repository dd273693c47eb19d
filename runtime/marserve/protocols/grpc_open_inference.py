"""The Open Inference Protocol over gRPC: tensors -> the JSON a handler gets, its JSON -> tensors.

Pure. A request becomes one row `{"body": {...}}`, as the same request over HTTP would.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from marserve.errors import InvalidInput
from marserve.protocols.grpc_status import CallRefused, bad_reply
from marserve.protocols.grpc_tensors import (
    BYTES,
    FIELDS,
    RAW_ONLY,
    from_contents,
    from_raw,
    raw_count,
    to_contents,
    to_raw,
)
from marserve.protocols.pb.open_inference_grpc_pb2 import (
    InferParameter,
    ModelInferRequest,
    ModelInferResponse,
)

_Document = Mapping[str, Any]
MAX_RANK = 64
"""Dimensions of a tensor; numpy has no more. Multiplying a million of them takes minutes."""


# --- requests ---


def body(request: ModelInferRequest) -> bytes:
    """The JSON body that the handler gets.

    Raises:
        InvalidInput: a tensor has no elements of its datatype, or not as many as its shape says.
    """
    raws = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise InvalidInput(
            f"raw_input_contents has {len(raws)} entries for {len(request.inputs)} inputs; give "
            "one for each, or none."
        )
    inputs = [
        _input(tensor, raws[index] if raws else None) for index, tensor in enumerate(request.inputs)
    ]
    document: dict[str, Any] = {"id": request.id, "model_name": request.model_name}
    if request.parameters:
        document["parameters"] = _parameters(request.parameters)
    document["inputs"] = inputs
    if request.outputs:
        document["outputs"] = [_named(one.name, one.parameters) for one in request.outputs]
    if all(_is_finite(tensor["data"]) for tensor in inputs):
        return msgspec.json.encode(document)
    return json.dumps(document).encode()  # the only one of the two that can write NaN


def _input(tensor: ModelInferRequest.InferInputTensor, raw: bytes | None) -> dict[str, Any]:
    if tensor.datatype not in FIELDS:
        raise InvalidInput(
            f'The datatype "{tensor.datatype}" of the input {tensor.name} is not known; the '
            f"protocol has {', '.join(FIELDS)}."
        )
    try:
        data = _elements(tensor, raw)
    except ValueError as error:
        raise InvalidInput(f"The input {tensor.name} {error}.") from error
    if tensor.datatype == BYTES:
        data = [base64.b64encode(element).decode("ascii") for element in data]
    return {
        **_named(tensor.name, tensor.parameters),
        "shape": list(tensor.shape),
        "datatype": tensor.datatype,
        "data": data,
    }


def _elements(tensor: ModelInferRequest.InferInputTensor, raw: bytes | None) -> list[Any]:
    if len(tensor.shape) > MAX_RANK:
        raise ValueError(f"has {len(tensor.shape)} dimensions; at most {MAX_RANK} are taken")
    if raw is None:
        return from_contents(tensor.datatype, tensor.contents)
    if tensor.contents.ListFields():
        raise ValueError("has contents besides raw_input_contents; give one of the two")
    count = raw_count(tensor.datatype, raw)
    if count is None:
        elements = from_raw(tensor.datatype, raw)
        _check_count(len(elements), tensor.shape)
        return elements
    _check_count(count, tensor.shape)  # before anything is made of the bytes
    return from_raw(tensor.datatype, raw)


def _check_count(count: int, shape: Sequence[int]) -> None:
    if any(size < 0 for size in shape) or count != math.prod(shape):
        raise ValueError(f"has {count} elements, but the shape {list(shape)}")


def _named(name: str, parameters: Mapping[str, InferParameter]) -> dict[str, Any]:
    return {"name": name, "parameters": _parameters(parameters)} if parameters else {"name": name}


def _parameters(parameters: Mapping[str, InferParameter]) -> dict[str, Any]:
    found = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        found[name] = getattr(parameter, choice) if choice else None
    return found


def _is_finite(data: list[Any]) -> bool:
    return not data or not isinstance(data[0], float) or all(map(math.isfinite, data))


# --- answers ---


def response(request: ModelInferRequest, reply: bytes) -> ModelInferResponse:
    """The tensors that a handler's JSON reply holds.

    Raises:
        CallRefused: the reply is not the protocol's JSON.
    """
    document = _document(reply)
    outputs = document.get("outputs")
    if not isinstance(outputs, list) or not all(isinstance(one, dict) for one in outputs):
        raise _misfit('it has no list "outputs" of objects')
    answer = ModelInferResponse(
        model_name=_text(document, "model_name", request.model_name),
        model_version=_text(document, "model_version", request.model_version),
        id=_text(document, "id", request.id),
    )
    is_raw = any(one.get("datatype") in RAW_ONLY for one in outputs)
    for one in outputs:
        _add_output(answer, one, is_raw)
    _set_parameters(answer.parameters, document)
    return answer


def _document(reply: bytes) -> _Document:
    try:
        document = json.loads(reply)
    except (ValueError, RecursionError) as error:
        raise _misfit("it is not JSON") from error
    if not isinstance(document, dict):
        raise _misfit("it is not a JSON object")
    return document


def _add_output(answer: ModelInferResponse, one: _Document, is_raw: bool) -> None:
    name, datatype = one.get("name"), one.get("datatype")
    if not isinstance(name, str):
        raise _misfit("an output has no name")
    if not isinstance(datatype, str) or datatype not in FIELDS:
        raise _misfit(f"the datatype {datatype!r} of the output {name} is not the protocol's")
    elements = _flat(one.get("data"))
    if datatype == BYTES:
        # TorchServe's form: an element is the JSON text of a value, quotes included
        elements = [_json_text(element) for element in elements]
    output = answer.outputs.add(name=_clean(name), datatype=datatype)
    try:
        output.shape.extend(one.get("shape", ()))
        if is_raw:
            answer.raw_output_contents.append(to_raw(datatype, elements))
        else:
            output.contents.CopyFrom(to_contents(datatype, elements))
    except (TypeError, ValueError, OverflowError) as error:
        raise _misfit(f"the output {name} {error}") from error
    _set_parameters(output.parameters, one)


def _flat(data: object) -> list[Any]:
    """The elements of nested lists, in order, without recursion: replies may nest deeply."""
    elements: list[Any] = []
    left = [data]
    while left:
        one = left.pop()
        if isinstance(one, list):
            left.extend(reversed(one))
        else:
            elements.append(one)
    return elements if isinstance(data, list) else []


def _json_text(element: object) -> bytes:
    return json.dumps(element, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _text(document: _Document, name: str, default: str) -> str:
    value = document.get(name)
    return _clean(value) if isinstance(value, str) else default


def _clean(text: str) -> str:
    """What UTF-8 can carry of a text: JSON can hold lone surrogates, protobuf cannot."""
    return text.encode("utf-8", "replace").decode()


def _set_parameters(target: Any, document: _Document) -> None:
    """Copy the parameters that the protocol can carry; others are left out."""
    parameters = document.get("parameters")
    if not isinstance(parameters, dict):
        return
    for name, value in parameters.items():
        if isinstance(value, bool):
            target[_clean(name)].bool_param = value
        elif isinstance(value, int) and abs(value) < 2**63:
            target[_clean(name)].int64_param = value
        elif isinstance(value, str):
            target[_clean(name)].string_param = _clean(value)


def _misfit(why: str) -> CallRefused:
    return CallRefused(
        bad_reply(
            f"The handler's reply is not the JSON of the Open Inference Protocol: {why}. It must "
            'be an object with "outputs", each of them with name, datatype, shape and data.'
        )
    )
