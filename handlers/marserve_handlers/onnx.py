"""Runs ONNX models with onnxruntime: opens a session, feeds it tensors, returns tensors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import torch

from marserve_handlers.errors import HandlerLoadFailed, PredictionException
from marserve_handlers.packages import required

_DTYPES: Final = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(int16)": torch.int16,
    "tensor(int8)": torch.int8,
    "tensor(uint8)": torch.uint8,
    "tensor(bool)": torch.bool,
}


def open_session(path: Path, map_location: str | None) -> Any:
    """An `onnxruntime.InferenceSession` of the model, on the GPU where `map_location` is `cuda`.

    Raises:
        HandlerLoadFailed: onnxruntime is not installed, or cannot read the file.
    """
    onnxruntime: Any = required("onnxruntime", f"the model {path.name}", "'marserve[onnx]'")
    providers = ["CPUExecutionProvider"]
    if map_location == "cuda":
        providers.insert(0, "CUDAExecutionProvider")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # the worker's share of the cores
    try:
        return onnxruntime.InferenceSession(str(path), providers=providers, sess_options=options)
    except Exception as error:  # its errors have no common base
        raise HandlerLoadFailed(
            f"onnxruntime cannot read {path.name}: {type(error).__name__}: {error}"
        ) from error


def is_session(model: object) -> bool:
    """Whether `model` is an onnxruntime session."""
    onnxruntime = sys.modules.get("onnxruntime")
    return onnxruntime is not None and isinstance(model, onnxruntime.InferenceSession)


def run_session(session: Any, *values: torch.Tensor, **named: torch.Tensor) -> Any:
    """The outputs for these inputs: a tensor, or name to tensor when there are several.

    Args:
        session: from `open_session`.
        values: the inputs in the model's order.
        named: inputs by name.

    Raises:
        PredictionException: the inputs do not fit the model (400).
    """
    wanted = {declared.name: declared for declared in session.get_inputs()}
    given = dict(zip(wanted, values, strict=False)) | named
    feed = {name: _array(tensor, wanted.get(name)) for name, tensor in given.items()}
    names = [declared.name for declared in session.get_outputs()]
    try:
        outputs = session.run(names, feed)
    except Exception as error:  # its errors have no common base
        if "INVALID_ARGUMENT" not in str(error) and not isinstance(error, ValueError):
            raise
        raise PredictionException(f"The input does not fit the model: {error}", 400) from error
    tensors = [torch.as_tensor(output) for output in outputs]
    return tensors[0] if len(tensors) == 1 else dict(zip(names, tensors, strict=True))


def _array(tensor: torch.Tensor, declared: Any) -> Any:
    dtype = _DTYPES.get(declared.type) if declared is not None else None
    return tensor.detach().to("cpu", dtype).numpy()
