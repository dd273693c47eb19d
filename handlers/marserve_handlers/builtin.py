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


_PASSTHROUGH: Final = BuiltIn("marserve_handlers.passthrough", "Passthrough")

BUILT_INS: Final[dict[str, BuiltIn]] = {
    "base_handler": BuiltIn("marserve_handlers.torch", "BaseHandler", ("torch",), "torch"),
    "echo": _PASSTHROUGH,
    "image_classifier": BuiltIn(
        "marserve_handlers.vision", "ImageClassifier", ("PIL", "torch", "torchvision"), "torch"
    ),
    "passthrough": _PASSTHROUGH,
    "sklearn": BuiltIn(
        "marserve_handlers.sklearn", "SklearnHandler", ("joblib", "numpy", "sklearn"), "sklearn"
    ),
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
