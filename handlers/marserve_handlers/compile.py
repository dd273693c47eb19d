"""Makes a loaded model faster where its YAML file or the server asks for that.

Owns the section `pt2` (torch.compile) and the switch `TS_IPEX_ENABLE`. What cannot be compiled is
served as it is, and the log says so: a model that answers slowly beats one that does not answer.
"""

from __future__ import annotations

import enum
import importlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from marserve_handlers.devices import is_switched_on

_log = logging.getLogger("marserve_handlers.torch")


class PT2Backend(str, enum.Enum):  # noqa: UP042  f-strings of it show the member's name
    """The backends that a model's YAML file may name."""

    EAGER = "eager"
    AOT_EAGER = "aot_eager"
    INDUCTOR = "inductor"
    NVFUSER = "nvfuser"
    AOT_NVFUSER = "aot_nvfuser"
    AOT_CUDAGRAPHS = "aot_cudagraphs"
    OFI = "ofi"
    FX2TRT = "fx2trt"
    ONNXRT = "onnxrt"
    IPEX = "ipex"
    TORCHXLA_TRACE_ONCE = "torchxla_trace_once"
    OPENVINO = "openvino"
    TENSORRT = "tensorrt"
    HPU_BACKEND = "hpu_backend"


_BACKENDS = frozenset(member.value for member in PT2Backend)

_PROVIDERS = {
    "openvino": "openvino.torch",
    "tensorrt": "torch_tensorrt",
    "ipex": "intel_extension_for_pytorch",
}
"""Backends that exist once a package of their maker is imported."""


def check_valid_pt2_backend(backend: str) -> bool:
    """Whether `backend` is one of `PT2Backend`; a warning is logged where it is not."""
    if backend in _BACKENDS:
        return True
    _log.warning("%s is not a supported backend", backend)
    return False


def compile_options(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The keyword arguments for `torch.compile` that a model's YAML file asks for, or None.

    Args:
        settings: the whole file. Its `pt2` is `{compile: {enable: true, backend: …, mode: …}}`, or
            in the older form the backend's name or the arguments themselves.

    Raises:
        ValueError: `pt2` is neither text nor a map, or `compile` is no map.
    """
    if "pt2" not in settings:
        return None
    pt2 = settings["pt2"]
    if isinstance(pt2, str):
        return _older_form({"backend": pt2})
    if not isinstance(pt2, dict):
        raise ValueError(f"pt2 should be str or dict, not {type(pt2).__name__}.")
    if "compile" not in pt2:
        return None if "export" in pt2 else _older_form(dict(pt2))
    section = pt2["compile"]
    if not isinstance(section, dict):
        raise ValueError(f"pt2.compile should be a map, not {type(section).__name__}.")
    if section.get("enable") is not True:
        if "enable" not in section:
            _log.warning("pt2.compile is not applied, because it does not say enable: true")
        return None
    return _supported({name: value for name, value in section.items() if name != "enable"})


def accelerated(model: Any, settings: Mapping[str, Any], device: torch.device) -> Any:
    """The model as its settings ask for it: compiled, or optimised by IPEX, or as it came.

    Raises:
        ValueError: see `compile_options`.
    """
    options = compile_options(settings)
    if options is not None:
        return _compiled(model, options)
    if is_switched_on("TS_IPEX_ENABLE"):
        return _optimised_by_ipex(model, device)
    return model


def load_compiler_config(config_file_path: str | Path) -> Any:
    """What a JSON file says about compilers; None (and a line in the log) without the file."""
    path = Path(config_file_path)
    if not path.is_file():
        _log.info("%s is missing. PT 2.0 will not be used", path)
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def _older_form(options: dict[str, Any]) -> dict[str, Any] | None:
    _log.warning("this form of pt2 is deprecated; write pt2: {compile: {enable: true, backend: …}}")
    return _supported(options)


def _supported(options: dict[str, Any]) -> dict[str, Any] | None:
    if "backend" in options and not check_valid_pt2_backend(options["backend"]):
        return None
    return options


def _compiled(model: Any, options: dict[str, Any]) -> Any:
    listed = ", ".join(f"{name} {value}" for name, value in options.items())
    try:
        _import_provider(options.get("backend"))
        # torch compiles at the first request. Should that fail (no C++ compiler, an operator that
        # the backend lacks), the model answers uncompiled.
        torch._dynamo.config.suppress_errors = True
        compiled = torch.compile(model, **options)
    except Exception as error:  # noqa: BLE001  backends are strangers' code
        _log.warning(
            "Compiling model model with %s has failed \n Proceeding without compilation", listed
        )
        _log.warning("%s: %s", type(error).__name__, error)
        return model
    _log.info("Compiled model with %s", listed)
    return compiled


def _import_provider(backend: object) -> None:
    provider = _PROVIDERS.get(backend) if isinstance(backend, str) else None
    if provider is not None:
        importlib.import_module(provider)


def _optimised_by_ipex(model: Any, device: torch.device) -> Any:
    try:
        ipex: Any = importlib.import_module("intel_extension_for_pytorch")
    except ImportError as error:
        _log.warning(
            "ipex_enable is set, but intel_extension_for_pytorch cannot be imported (%s); the "
            "model is served without it: pip install intel-extension-for-pytorch",
            error,
        )
        return model
    optimised = ipex.optimize(model.to(memory_format=torch.channels_last).to(device))
    _log.info("Compiled model with ipex")
    return optimised
