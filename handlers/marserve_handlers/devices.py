"""Which device a worker's model is on, what a device needs before it computes, and the way there.

A worker computes on one stream of its own. Batches go to a GPU from pinned memory, without the
worker waiting: what is computed from them waits on the stream, and whoever reads the answer.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from typing import Any

import torch

_log = logging.getLogger("marserve_handlers.torch")


def choose_device(gpu_id: int | str | None) -> torch.device:
    """The accelerator that this worker was given, or the CPU.

    An XPU counts only where the server was configured for it (`TS_IPEX_GPU_ENABLE=true` in the
    worker's environment). torch-xla, where it is installed, brings a device of its own to workers
    without any other.
    """
    if gpu_id is not None:
        given = _numbered(gpu_id)
        if given is not None:
            return given
    if importlib.util.find_spec("torch_xla") is not None:
        return _xla_device()
    if gpu_id is not None:
        _log.warning("the worker was given gpu %s, but torch finds none; it uses the CPU", gpu_id)
    return torch.device("cpu")


def prepare(device: torch.device) -> None:
    """Let a GPU with tensor cores multiply 32-bit matrices on them; give the worker its stream.

    The device becomes the default of the calling thread, which is the one that runs the handler,
    and so does a new stream of a GPU.
    """
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):
            torch.set_float32_matmul_precision("high")
        torch.cuda.set_device(device)
        new_stream: Any = torch.cuda.Stream
        torch.cuda.set_stream(new_stream(device))
    if device.type == "xpu":
        torch.xpu.set_device(device)


def on_device(data: Any, device: Any) -> Any:
    """A batch where the model is; `data` itself when it is there already.

    Args:
        data: a tensor, or something with a method `to`.
        device: of the model; handlers set it to numbers and texts as well.
    """
    is_gpu = isinstance(device, torch.device) and device.type == "cuda"
    if not is_gpu or not isinstance(data, torch.Tensor) or data.device.type != "cpu":
        return data.to(device)
    # torch keeps the pinned copy until the stream has read it
    return data.pin_memory().to(device, non_blocking=True)


def settle(device: torch.device) -> None:
    """Wait until a GPU has what loading sent there: other threads use other streams."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def is_switched_on(variable: str) -> bool:
    """Whether the server set this environment variable to `true` for its workers."""
    return os.environ.get(variable, "").strip().lower() == "true"


def _numbered(gpu_id: int | str) -> torch.device | None:
    if torch.cuda.is_available():
        return torch.device(f"cuda:{gpu_id}")
    if torch.xpu.is_available():
        if is_switched_on("TS_IPEX_GPU_ENABLE"):
            return torch.device(f"xpu:{gpu_id}")
        _log.warning("torch finds an XPU; set ipex_gpu_enable=true to use it")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return None


def _xla_device() -> torch.device:
    model: Any = importlib.import_module("torch_xla.core.xla_model")
    device: torch.device = model.xla_device()
    return device
