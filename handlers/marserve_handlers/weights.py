"""Reads the weights of torch models: state dicts without running code from them, TorchScript.

State dicts are memory-mapped where the file allows it, so workers of one model share the pages.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch

from marserve_handlers.errors import HandlerLoadFailed


class UnreadableError(ValueError):
    """A file is not what `torch.save` writes."""


def read_state_dict(path: Path) -> Mapping[str, Any]:
    """The state dict in `path`, on the CPU.

    Raises:
        HandlerLoadFailed: the file holds something other than tensors under names, or is broken.
    """
    # files in the format before torch 1.6 are no zip files and cannot be mapped
    mmap = zipfile.is_zipfile(path)
    if mmap and is_torchscript(path):
        raise HandlerLoadFailed(
            f"the weights {path.name} are a TorchScript model; either pack them without a model "
            "file, or save the state dict: torch.save(model.state_dict(), path)"
        )
    try:
        weights = read_plain(path, mmap=mmap)
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


def fill(model: torch.nn.Module, weights: Mapping[str, Any]) -> None:
    """Put a state dict into a model.

    Where names, types and shapes agree the mapped tensors themselves become the parameters and
    nothing is copied; otherwise torch copies and converts, and says what does not fit.

    Raises:
        RuntimeError: names or shapes do not fit (torch's own text).
    """
    plain = type(model).load_state_dict is torch.nn.Module.load_state_dict
    if plain and _fits_exactly(model.state_dict(), weights):
        model.load_state_dict(weights, assign=True)
    else:
        model.load_state_dict(weights)


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


def _fits_exactly(own: Mapping[str, Any], weights: Mapping[str, Any]) -> bool:
    return own.keys() == weights.keys() and all(
        isinstance(value, torch.Tensor)
        and isinstance(weights[name], torch.Tensor)
        and value.dtype == weights[name].dtype
        and value.shape == weights[name].shape
        for name, value in own.items()
    )


def _first_sentence(error: Exception) -> str:
    """What of torch's page-long text says which object was refused."""
    for line in str(error).splitlines():
        if "GLOBAL" in line:
            return line.strip().split("WeightsUnpickler error: ")[-1].split(" was not")[0]
    return type(error).__name__
