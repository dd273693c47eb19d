"""Reads the weights of torch models: state dicts without running code from them, TorchScript.

State dicts are memory-mapped where the file allows it and nobody writes to it, so the workers of
one model share the pages. The mapping is private: who writes to a parameter gets a copy of its
page.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import torch

from marserve_handlers.deferred_init import DeferredFills, build
from marserve_handlers.errors import HandlerLoadFailed

_DIGEST: Final = re.compile("[0-9a-f]{64}")


class UnreadableError(ValueError):
    """A file is not what `torch.save` writes."""


def read_state_dict(path: Path) -> Mapping[str, Any]:
    """The state dict in `path`, on the CPU.

    Raises:
        HandlerLoadFailed: the file holds something other than tensors under names, or is broken.
    """
    # files in the format before torch 1.6 are no zip files and cannot be mapped
    is_zip = zipfile.is_zipfile(path)
    if is_zip and is_torchscript(path):
        raise HandlerLoadFailed(
            f"the weights {path.name} are a TorchScript model; either pack them without a model "
            "file, or save the state dict: torch.save(model.state_dict(), path)"
        )
    try:
        weights = read_plain(path, mmap=is_zip and _is_immutable(path))
    except UnreadableError as error:
        raise HandlerLoadFailed(f"the weights {path.name} cannot be read: {error}") from error
    except pickle.UnpicklingError as error:
        raise HandlerLoadFailed(
            f"the weights {path.name} hold more than tensors, and loading them would run code "
            f"from the file ({_first_sentence(error)}). Save only the state dict, where you trust "
            f"the file: torch.save(model.state_dict(), {path.name!r}); then pack it again"
        ) from error
    if not isinstance(weights, Mapping):
        raise HandlerLoadFailed(
            f"the weights {path.name} hold a {type(weights).__name__}, not a state dict; save "
            "them with torch.save(model.state_dict(), path)"
        )
    return weights


def read_plain(source: Path | IO[bytes], *, mmap: bool = False) -> Any:
    """What `torch.save` wrote to `source`, on the CPU, if that is tensors and plain values.

    Raises:
        pickle.UnpicklingError: it is something else, and reading it would run code (torch's text).
        UnreadableError: it is no such file, or not all of one.
    """
    try:
        return torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
    except (MemoryError, pickle.UnpicklingError):
        raise
    except Exception as error:  # the reader raises errors of every kind on broken files
        raise UnreadableError(
            f"it is no whole file that torch.save wrote ({type(error).__name__}: {error})"
        ) from error


def fill(
    model: torch.nn.Module, weights: Mapping[str, Any], fills: DeferredFills | None = None
) -> None:
    """Put a state dict into a model.

    Where names, types and shapes agree, the parameters and buffers take over the memory of the
    state dict, and nothing is copied; otherwise torch copies and converts, and says what does not
    fit.

    Args:
        model: on the CPU.
        weights: what `read_state_dict` returned.
        fills: what the building of the model has put off; it is dropped, or done where a
            parameter's own value may matter.

    Raises:
        RuntimeError: names or shapes do not fit (torch's own text).
    """
    own = model.state_dict()
    if type(model).load_state_dict is torch.nn.Module.load_state_dict and _fits(own, weights):
        if fills is not None:
            fills.drop()
        _take_over(model, own, weights)
    else:
        if fills is not None:
            fills.catch_up()
        model.load_state_dict(weights)


def rehearse() -> None:
    """Build and fill a model of one neuron.

    What torch makes ready when it does so for the first time is then there for all processes that
    are forked from this one. It starts no threads.
    """
    file = io.BytesIO()
    torch.save(torch.nn.Linear(1, 1).state_dict(), file)
    file.seek(0)
    model, fills = build(lambda: torch.nn.Linear(1, 1))
    fill(model, read_plain(file), fills)


def is_torchscript(path: Path) -> bool:
    """Whether `path` is what `torch.jit.save` writes."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return any(name.endswith("/constants.pkl") for name in file.namelist())


def read_torchscript(path: Path, device: torch.device) -> Any:
    """The TorchScript model in `path`, on `device`."""
    with warnings.catch_warnings():
        # torch announces the end of TorchScript; whoever serves an archive cannot act on it
        warnings.filterwarnings("ignore", message=".*torch.jit.load.*")
        load: Any = torch.jit.load
        return load(str(path), map_location=device)


def _fits(own: Mapping[str, Any], weights: Mapping[str, Any]) -> bool:
    return own.keys() == weights.keys() and all(
        isinstance(value, torch.Tensor)
        and isinstance(weights[name], torch.Tensor)
        and value.device == weights[name].device
        and value.dtype == weights[name].dtype
        and value.shape == weights[name].shape
        for name, value in own.items()
    )


def _take_over(model: torch.nn.Module, own: dict[str, Any], weights: Mapping[str, Any]) -> None:
    """Give the model's tensors the memory of `weights`, while they stay the objects they are.

    A model may keep a parameter in places that no state dict knows, as a list of its own. One
    whose memory something else shares, as a view of it, keeps that memory and gets a copy.
    """
    own.clear()  # its values are views, which would count
    alone = _memory_uses(torch.empty(1))
    before = [
        (module, name, tensor, _memory_uses(tensor))
        for module in model.modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None and name not in module._non_persistent_buffers_set
    ]
    model.load_state_dict(weights, assign=True)
    with torch.no_grad():
        for module, name, tensor, uses in before:
            loaded = getattr(module, name)
            if loaded is tensor:
                continue  # a hook of the model put it back, or it was here twice
            if uses > alone:
                tensor.copy_(loaded)
            else:
                tensor.data = loaded.data
            setattr(module, name, tensor)


def _memory_uses(tensor: torch.Tensor) -> int:
    """How many tensors have the memory of this one; 0 where torch cannot tell."""
    count: Any = getattr(torch._C, "_storage_Use_Count", None)
    return 0 if count is None else int(count(tensor.untyped_storage()._cdata))


def _is_immutable(path: Path) -> bool:
    """Whether nobody will ever write to this file.

    Archives are unpacked into a folder that is called by their digest. A model that is served from
    a folder of its owner's may be overwritten in place, which would change, or end, whoever has
    mapped it.
    """
    return any(_DIGEST.fullmatch(folder.name) for folder in path.absolute().parents)


def _first_sentence(error: Exception) -> str:
    """What of torch's page-long text says which object was refused."""
    for line in str(error).splitlines():
        if "GLOBAL" in line:
            return line.strip().split("WeightsUnpickler error: ")[-1].split(" was not")[0]
    return type(error).__name__
