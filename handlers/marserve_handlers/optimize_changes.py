"""Applies a change to a torch model: precision, memory layout, freezing, compilation.

The model stays the object it was, so that handlers find its attributes; hooks convert what goes in
and what comes out. TorchScript takes no hooks and is wrapped instead. Whoever calls a changed model
gives and gets what the plain model took and gave.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

import torch

from marserve_handlers.optimize_settings import PLAIN, Change

_DTYPES: Final = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_CGROUP: Final = Path("/sys/fs/cgroup")
_IMAGES: Final = 4
"""The dimensions of a tensor that has a memory format: rows, channels, height, width."""
_CONVOLUTIONS: Final = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)


def is_script(model: Any) -> bool:
    """Whether it is TorchScript, converted or not."""
    return isinstance(model, torch.jit.ScriptModule | _Converted)


def refusal(model: Any, change: Change) -> str | None:
    """Why this kind of model cannot be changed so; None: it can, as far as one sees."""
    if change.compile is not None and is_script(model):
        return "compile is for models with python code; TorchScript can be frozen (freeze: true)"
    if change.freeze and not is_script(model):
        return "freeze is for TorchScript; this model has python code and can be compiled"
    return None


def candidates(
    model: Any, device: torch.device, compiled: Mapping[str, Any] | None
) -> list[Change]:
    """What is worth trying, the most promising first.

    Args:
        model: the plain model.
        device: where it runs.
        compiled: arguments of `torch.compile` to try as well; None: compilation is not tried.
    """
    formats = ["channels_last", "contiguous"] if _has_images(model) else ["contiguous"]
    dtypes = [*fast_dtypes(device), "float32"]
    found = [Change(dtype, layout) for dtype in dtypes for layout in formats]
    if is_script(model):
        found = [Change(one.dtype, one.memory_format, freeze=True) for one in found] + found
    elif compiled is not None:
        best = found[0]
        found += [
            Change(best.dtype, best.memory_format, compile=compiled),
            Change(compile=compiled),
        ]
    return [one for one in found if one != PLAIN]


def fast_dtypes(device: torch.device) -> list[str]:
    """The short number formats that this device computes with, not only emulates."""
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.get_device_capability(device) >= (8, 0)
        return ["bfloat16", "float16"] if has_bfloat16 else ["float16"]
    if device.type != "cpu":
        return []
    found = []
    if _cpu_has("_is_avx512_bf16_supported") or _cpu_has("_is_amx_tile_supported"):
        found.append("bfloat16")
    if _cpu_has("_is_amx_fp16_supported"):
        found.append("float16")
    return found


def apply(model: Any, change: Change) -> Any:
    """The changed model, mostly the same object. Its outputs are float32 where they were.

    Raises:
        Exception: whatever torch raises where the model cannot be changed.
    """
    dtype = _DTYPES[change.dtype]
    is_short = change.dtype != PLAIN.dtype
    in_layout = change.memory_format == "channels_last"
    if is_short:
        model.to(dtype)
    if in_layout:
        model.to(memory_format=torch.channels_last)
    if change.freeze:
        with warnings.catch_warnings():
            # torch announces the end of TorchScript; whoever serves an archive cannot act on it
            warnings.filterwarnings("ignore", message=".*torch.jit.*")
            model = torch.jit.optimize_for_inference(model)
    if is_script(model) and (is_short or in_layout):
        return _Converted(model, change)
    if is_short or in_layout:
        model.register_forward_pre_hook(_Inputs(change), with_kwargs=True)
    if is_short:
        model.register_forward_hook(_outputs)
    if change.compile is not None:
        # one graph for all sizes of batches: else the second size that comes is compiled anew
        model.compile(**({"dynamic": True} | dict(change.compile)))
    return model


def copied(model: Any) -> Any:
    """A copy with weights of its own.

    Raises:
        Exception: whatever the model's own code raises where it cannot be copied.
    """
    with torch.no_grad():  # else the weights of a copied TorchScript model remember their origin
        return copy.deepcopy(model)


def weights_bytes(model: Any) -> int:
    """The size of parameters and buffers."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(one.numel() * one.element_size() for one in tensors)


def available_bytes() -> int:
    """The memory that is free for a copy: of the machine, and of the container if it has less."""
    free = 1 << 62
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError):  # "max" is no number
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))
        free = min(free, limit - int((_CGROUP / "memory.current").read_text(encoding="ascii")))
    return free


class _Converted(torch.nn.Module):
    """A TorchScript model behind conversions; has the attributes of the model as well."""

    def __init__(self, script: Any, change: Change) -> None:
        super().__init__()
        self.script = script
        self._inputs = _Inputs(change)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = self._inputs(self, args, kwargs)
        return _outputs(self, args, self.script(*args, **kwargs))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("script"), name)


class _Inputs:
    """Converts what a model is given; integers stay what they are."""

    def __init__(self, change: Change) -> None:
        self._dtype = _DTYPES[change.dtype] if change.dtype != PLAIN.dtype else None
        in_layout = change.memory_format == "channels_last"
        self._layout = torch.channels_last if in_layout else None

    def __call__(self, _: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        return self._converted(args), self._converted(kwargs)

    def _converted(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if type(value) is dict:
            return {key: self._converted(one) for key, one in value.items()}
        if type(value) in (list, tuple):
            return type(value)([self._converted(one) for one in value])
        return value

    def _tensor(self, value: torch.Tensor) -> torch.Tensor:
        if not value.is_floating_point():
            return value
        if self._layout is not None and value.dim() == _IMAGES:
            return value.to(dtype=self._dtype or value.dtype, memory_format=self._layout)
        return value if self._dtype is None else value.to(self._dtype)


def _outputs(_: Any, __: Any, output: Any) -> Any:
    """What a model gives, in float32: numpy and JSON know no other."""
    if isinstance(output, torch.Tensor):
        return output.float() if output.is_floating_point() else output
    if isinstance(output, MutableMapping):
        for key in output:  # in place: the outputs of many models are maps with attributes
            output[key] = _outputs(_, __, output[key])
        return output
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*(_outputs(_, __, one) for one in output))
    if type(output) in (list, tuple):
        return type(output)([_outputs(_, __, one) for one in output])
    return output


def _has_images(model: Any) -> bool:
    """Whether there are convolutions over images; of TorchScript only names of classes are left."""
    names = {kind.__name__ for kind in _CONVOLUTIONS}
    return any(
        isinstance(module, _CONVOLUTIONS) or getattr(module, "original_name", None) in names
        for module in model.modules()
    )


def _cpu_has(question: str) -> bool:
    # torch asks the processor itself; the names are not part of its public face
    ask = getattr(torch.cpu, question, None)
    return bool(ask is not None and ask())
