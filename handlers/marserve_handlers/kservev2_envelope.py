"""KServe's protocol, version 2 (the Open Inference Protocol), as an envelope. Needs numpy.

One request at a time: the first of a batch. The numbers' types in an answer are those that numpy
gives the handler's results.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from marserve_handlers.envelopes import BaseEnvelope, json_object
from marserve_handlers.errors import HandlerError, HandlerLoadFailed, PredictionException

try:
    import numpy as np
except ImportError as error:
    raise HandlerLoadFailed(
        "The service envelope kservev2 needs the package numpy, which is not installed where this "
        "worker runs: pip install numpy."
    ) from error

_DATATYPES: Final = {
    "bool": "BOOL",
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
}
_BYTES_KINDS: Final = frozenset("OSU")
"""numpy's kinds of objects, bytes and text."""


class KServev2Envelope(BaseEnvelope):
    """The handler sees the list of input tensors; each of its results becomes an output tensor.

    A BYTES input's `data` becomes its first element, any other's a nested list of its shape. The
    context gets `input_names`, and `input_request_id` where the client named one, for the time of
    the call.
    """

    def parse_input(self, data: list[Any]) -> list[dict[str, Any]]:
        """The first request's inputs.

        Raises:
            PredictionException: the body is no inference request (status 400).
        """
        document = json_object(data[0])
        inputs = document.get("inputs")
        if not isinstance(inputs, list):
            raise PredictionException('The body has no list "inputs".', 400)
        parsed = [_parsed(one, index) for index, one in enumerate(inputs)]
        state = vars(self.context)
        state["input_names"] = [one["name"] for one in parsed]
        request_id = document.get("id")
        if isinstance(request_id, str) and request_id.strip():
            state["input_request_id"] = request_id
        else:
            state.pop("input_request_id", None)
        return parsed

    def format_output(self, data: Any) -> list[dict[str, Any]]:
        """One response with one output per result.

        Raises:
            HandlerError: the handler returned no list, or something that has no datatype.
        """
        state = vars(self.context)
        names: list[str] = state.pop("input_names", [])
        request_id = state.pop("input_request_id", None) or self.context.get_request_id(0)
        if not isinstance(data, Sequence) or isinstance(data, str | bytes):
            raise HandlerError(
                f"Invalid model predict output: the handler must return a list, "
                f"not {type(data).__name__}"
            )
        names += [f"output-{index}" for index in range(len(names), len(data))]
        model = self.context.manifest.get("model") or {}
        return [
            {
                "id": request_id,
                "model_name": model.get("modelName"),
                "model_version": model.get("modelVersion"),
                "outputs": [
                    _output(name, result) for name, result in zip(names, data, strict=False)
                ],
            }
        ]


def _parsed(tensor: Any, index: int) -> dict[str, Any]:
    if not isinstance(tensor, dict):
        raise PredictionException(f"Input {index} is not an object.", 400)
    for key in ("name", "datatype", "data", "shape"):
        if key not in tensor and not (key == "shape" and tensor["datatype"] == "BYTES"):
            raise PredictionException(f"Input {index} has no {key}.", 400)
    values = tensor["data"]
    if tensor["datatype"] == "BYTES":
        if not isinstance(values, list) or not values:
            raise PredictionException(f"data of input {index} is a list that is not empty.", 400)
        return {**tensor, "data": values[0]}
    try:
        shaped = np.array(values).reshape(tuple(tensor["shape"])).tolist()
    except (TypeError, ValueError, OverflowError, MemoryError) as error:
        raise PredictionException(
            f"data of input {index} does not have the shape {tensor['shape']!r}: {error}.", 400
        ) from error
    return {**tensor, "data": shaped}


def _output(name: str, result: Any) -> dict[str, Any]:
    flat = np.array(result).flatten()
    values = flat.tolist()
    return {
        "name": name,
        "datatype": _datatype(flat.dtype),
        "data": [one.decode() for one in values] if flat.dtype.kind == "S" else values,
        "shape": list(flat.shape),
    }


def _datatype(dtype: np.dtype[Any]) -> str:
    if dtype.kind in _BYTES_KINDS:
        return "BYTES"
    try:
        return _DATATYPES[dtype.name]
    except KeyError:
        raise HandlerError(
            f"A result of numpy's type {dtype} has no datatype in KServe's protocol."
        ) from None
