"""Traces of torch's profiler for handlers whose server sets `ENABLE_TORCH_PROFILER`.

A trace per batch goes to `/tmp/pytorch_profiler/<model>/`, where TensorBoard reads it, unless the
handler's `profiler_args` say otherwise.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity

VARIABLE: Final = "ENABLE_TORCH_PROFILER"
TRACES: Final = Path("/tmp/pytorch_profiler")  # noqa: S108  where dashboards look for them

_log = logging.getLogger("marserve_handlers.torch")


def is_wanted() -> bool:
    """Whether each batch shall be traced."""
    return bool(os.environ.get(VARIABLE))


def profiler(arguments: dict[str, Any], model_name: str) -> Any:
    """A context manager of torch that traces what runs inside it.

    Args:
        arguments: for `torch.profiler.profile`; empty means CPU, GPU and shapes. What is missing
            is filled in, in place, so the next batch finds it.
        model_name: the folder for the traces.
    """
    if not arguments:
        arguments["activities"] = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            arguments["activities"].append(ProfilerActivity.CUDA)
        arguments["record_shapes"] = True
    if "on_trace_ready" not in arguments:
        folder = TRACES / Path(model_name).name
        arguments["on_trace_ready"] = torch.profiler.tensorboard_trace_handler(str(folder))
        _log.info("Saving chrome trace to : %s", folder)
    return torch.profiler.profile(**arguments)


def log_summary(profile: Any) -> None:
    """The ten operators that took the most of the CPU, in the log."""
    table = profile.key_averages().table(sort_by="cpu_time_total", row_limit=10)
    _log.info("%s", table)
