"""The handlers that come with MarServe, offered through the same hooks as everybody else's.

Light: a framework is imported when its handler is asked for, and not before.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from marserve_handlers.errors import HandlerLoadFailed
from marserve_handlers.hookspecs import hookimpl


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """Where a handler is, and what it needs."""

    module: str
    attribute: str
    frameworks: tuple[str, ...] = ()
    extra: str = ""
    """The extra of the distribution that installs the frameworks."""


_VISION: Final = ("PIL", "torch", "torchvision")


def _torch(module: str, attribute: str, *frameworks: str) -> BuiltIn:
    return BuiltIn(f"marserve_handlers.{module}", attribute, frameworks or ("torch",), "torch")


_PASSTHROUGH: Final = BuiltIn("marserve_handlers.passthrough", "Passthrough")

BUILT_INS: Final[dict[str, BuiltIn]] = {
    "base_deepspeed_handler": _torch("distributed", "BaseDeepSpeedHandler"),
    "base_handler": _torch("torch", "BaseHandler"),
    "base_pippy_handler": _torch("distributed", "BasePippyHandler"),
    "dali_image_classifier": _torch("dali", "DALIImageClassifier", *_VISION),
    "densenet_handler": _torch("densenet", "DenseNetHandler"),
    "echo": _PASSTHROUGH,
    "image_classifier": _torch("vision", "ImageClassifier", *_VISION),
    "image_segmenter": _torch("segmentation", "ImageSegmenter", *_VISION),
    "object_detector": _torch("detection", "ObjectDetector", *_VISION),
    "passthrough": _PASSTHROUGH,
    "sklearn": BuiltIn(
        "marserve_handlers.sklearn", "SklearnHandler", ("joblib", "numpy", "sklearn"), "sklearn"
    ),
    "text_classifier": _torch("text", "TextClassifier"),
    "trt_llm_handler": _torch("trt_llm", "TRTLLMHandler"),
    "vllm_handler": _torch("vllm", "VLLMHandler"),
}


@hookimpl
def marserve_handler(name: str) -> type | Callable[..., Any] | None:
    """A built-in handler.

    Raises:
        HandlerLoadFailed: its framework is not installed.
    """
    found = BUILT_INS.get(name)
    if found is None:
        return None
    try:
        module = importlib.import_module(found.module)
    except ImportError as error:
        remedy = f"; pip install 'marserve[{found.extra}]'" if found.extra else ""
        raise HandlerLoadFailed(
            f"the handler {name} could not be imported: {type(error).__name__}: {error}{remedy}"
        ) from error
    target: type = getattr(module, found.attribute)
    return target


@hookimpl
def marserve_handler_names() -> list[str]:
    """The names in `BUILT_INS`."""
    return sorted(BUILT_INS)


@hookimpl
def marserve_preload(name: str) -> list[str] | None:
    """The frameworks of a built-in handler."""
    found = BUILT_INS.get(name)
    return None if found is None else list(found.frameworks)
