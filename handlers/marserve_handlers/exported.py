"""Reads models that `torch.export` and AOTInductor wrote: `.pt2` packages and `.so` libraries.

A compiled package and a library are native code: loading one runs it, as importing the handler of
an archive does. An exported program is data; one that holds pickled objects is refused.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Final

import torch
import torch.export

from marserve_handlers.errors import HandlerLoadFailed
from marserve_handlers.weights import UnreadableError, read_plain

_MAX_PICKLED_BYTES: Final = 1 << 28
_PICKLED_OBJECTS: Final = ("custom_obj_", "opaque_obj_")
_ZIP: Final = b"PK\x03\x04"
"""How a file of torch.save begins; raw tensors have no header."""


def is_compiled_package(path: Path) -> bool:
    """Whether a `.pt2` file is what `aoti_compile_and_package` writes, not an exported program."""
    with _opened(path) as file:
        return any("aotinductor" in PurePosixPath(name).parts for name in file.namelist())


def read_compiled_package(path: Path, device: torch.device) -> Any:
    """The callable model in a `.pt2` package of AOTInductor, on the device it was compiled for."""
    from torch._inductor import aoti_load_package

    return aoti_load_package(str(path), device_index=-1 if device.index is None else device.index)


def read_library(path: Path, device: torch.device) -> Callable[..., Any]:
    """The callable model in a `.so` file that `torch._export.aot_compile` wrote."""
    from torch import _export

    if device.type == "cuda":
        torch.cuda.set_device(device)  # the loader takes a kind of device, not which one
    load: Callable[[str, str], Callable[..., Any]] = _export.aot_load
    return load(str(path), device.type)


def read_exported_program(path: Path, device: torch.device) -> torch.nn.Module:
    """The module of an exported program, moved to `device`.

    Raises:
        HandlerLoadFailed: the file holds pickled objects, or is no such program.
    """
    with _opened(path) as file:
        for member in file.infolist():
            _refuse_objects(file, member, path.name)
    try:
        program = torch.export.load(str(path))
    except (AssertionError, KeyError, RuntimeError, ValueError) as error:
        raise HandlerLoadFailed(
            f"{path.name} is not an exported program that torch {torch.__version__} can read "
            f"({type(error).__name__}: {error}); write it with torch.export.save of this release"
        ) from error
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    module: torch.nn.Module = program.module()
    return module


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise HandlerLoadFailed(
            f"{path.name} is no package of torch ({error}); write it with torch.export.save or "
            "torch._inductor.aoti_compile_and_package"
        ) from error


def _refuse_objects(file: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> None:
    """Raise when torch would unpickle `member` into anything but tensors and plain values."""
    own = PurePosixPath(member.filename).name
    if own.startswith(_PICKLED_OBJECTS):
        raise _refusal(name, own)
    with file.open(member) as stream:
        if stream.read(len(_ZIP)) != _ZIP:
            return
    if member.file_size > _MAX_PICKLED_BYTES:
        raise _refusal(name, own)
    try:
        read_plain(io.BytesIO(file.read(member)))
    except (UnreadableError, pickle.UnpicklingError) as error:
        raise _refusal(name, own) from error


def _refusal(name: str, member: str) -> HandlerLoadFailed:
    return HandlerLoadFailed(
        f"{name} holds pickled objects ({member}), and loading them would run code from the file; "
        "export the model with tensors and plain values only as inputs and constants"
    )
