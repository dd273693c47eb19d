"""What `ts.utils.util` and `ts.handler_utils.utils` hold besides what other modules have."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def import_class(class_name: str, module_prefix: str | None = None) -> Any:
    """The class of that name.

    Args:
        class_name: `Class`, or `module.Class`.
        module_prefix: the module, or the package that `class_name` starts from.

    Raises:
        ImportError: there is no such module, or no such class in it.
    """
    module_name, _, name = f"{module_prefix or ''}.{class_name}".strip(".").rpartition(".")
    if not module_name:
        raise ImportError(f"{class_name!r} names no module; write module.Class.")
    module = importlib.import_module(module_name)
    try:
        return getattr(module, name)
    except AttributeError:
        raise ImportError(f"The module {module_name} has no class {name}.") from None


def deprecated(
    version: str, replacement: str = "", klass: type[Warning] = PendingDeprecationWarning
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: whoever calls the function is warned.

    Args:
        version: since when.
        replacement: what to call instead.
        klass: of the warning.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        instead = f"; call {replacement} instead" if replacement else ""
        message = f"{function.__name__} is deprecated since {version}{instead}."

        @functools.wraps(function)
        def warning(*args: P.args, **kwargs: P.kwargs) -> R:
            warnings.warn(message, klass, stacklevel=2)
            return function(*args, **kwargs)

        return warning

    return decorate
