"""From the handler's name to something the worker can call.

Finds the file or the installed handler, picks the function or the class, and hides the
difference. What user code raises while it runs passes through unchanged.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from marserve_handlers.contract import Context
from marserve_handlers.errors import HandlerLoadFailed, HandlerNotFound
from marserve_handlers.model_files import (
    cause,
    find_file,
    import_file,
    list_classes_from_module,
    remedy,
)

FUNCTION: Final = "handle"

FindNamed = Callable[[str], object | None]


class EntryPoint:
    """One handler, class or function, ready to be initialised and called.

    Args:
        target: a class with `handle`, or a function `handle(data, context)`.
        name: how to call it in an error.

    Raises:
        HandlerLoadFailed: the target is neither.
    """

    def __init__(self, target: object, name: str) -> None:
        self.name = name
        self._instance: Any = None
        self._type: type | None = None
        self._function: Callable[..., Any] | None = None
        if isinstance(target, type):
            self._type = target
            function = getattr(target, FUNCTION, None)
            if not callable(function):
                raise HandlerLoadFailed(
                    f"{name}: the class {target.__name__} has no method handle(self, data, context)"
                )
        elif callable(target):
            function = self._function = target
        else:
            raise HandlerLoadFailed(
                f"{name} is a {type(target).__name__}; a handler is a class or a function"
            )
        self.is_async = inspect.iscoroutinefunction(function)
        """Whether `handle` is declared with async def: its result must be awaited."""

    def initialize(self, context: Context) -> None:
        """Let the handler load its model: `initialize(context)`, or `function(None, context)`."""
        if self._type is None:
            assert self._function is not None
            self._function(None, context)
            return
        self._instance = self._type()
        initialize = getattr(self._instance, "initialize", None)
        if initialize is not None:
            initialize(context)
        self._function = self._instance.handle  # initialize may have put another in its place

    def handle(self, rows: list[dict[str, object]], context: Context) -> Any:
        """Whatever the handler returns for these rows; a good one returns one result per row."""
        assert self._function is not None, "initialize comes first"
        return self._function(rows, context)

    def close(self) -> None:
        """Call the handler's `close()`, or else `unload()`, when it has one."""
        for name in ("close", "unload"):
            release = getattr(self._instance, name, None)
            if callable(release):
                release()
                return


def load_entry_point(handler: str, model_dir: Path, find_named: FindNamed) -> EntryPoint:
    """The entry point that `handler` names.

    Args:
        handler: `module.py`, `module`, `folder/module.py:function`, the name of an installed
            handler, or a module of an installed package. A file of the model directory comes
            before an installed handler, and that before a package.
        model_dir: where the model's files are; it comes on `sys.path`, before all packages.
        find_named: the installed handler of a name, or None.

    Raises:
        HandlerNotFound: there is neither such a file nor such a handler.
        HandlerLoadFailed: the file cannot be imported, or holds nothing that can be called.
    """
    path, _, function = handler.partition(":")
    file = find_file(model_dir, path) if path else None
    if file is not None:
        module = import_file(file, model_dir, "handler file")
        return EntryPoint(_pick(module, function or FUNCTION, file.name), file.name)
    for name in dict.fromkeys((handler, handler.removesuffix(".py"))):
        target = find_named(name)
        if target is not None:
            return EntryPoint(target, name)
    installed = _installed(path, model_dir)
    if installed is None:
        raise HandlerNotFound(handler)
    return EntryPoint(_pick(installed, function or FUNCTION, handler), handler)


def _installed(path: str, model_dir: Path) -> ModuleType | None:
    """The module of an installed package that `folder/module.py` or `module` names, if any."""
    name = path.removesuffix(".py").replace("/", ".")
    top = name.partition(".")[0]
    parts_are_names = all(part.isidentifier() for part in name.split("."))
    if not parts_are_names or top in sys.stdlib_module_names or top == "ts":
        return None
    try:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # a folder is no module
            return None
        return importlib.import_module(name)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == top:
            return None
        raise HandlerLoadFailed(
            f"the handler {name} could not be imported: {cause(error, model_dir)}{remedy(error)}"
        ) from error


def _pick(module: ModuleType, function: str, file_name: str) -> object:
    """The function of that name, or else the one class that the module defines."""
    named = getattr(module, function, None)
    if callable(named):
        return named
    classes = list_classes_from_module(module)
    if not classes:
        raise HandlerLoadFailed(
            f"the handler file {file_name} has no function {function}(data, context) and defines "
            "no class with handle(self, data, context)"
        )
    if len(classes) == 1:
        return classes[0]
    able = [cls for cls in classes if callable(getattr(cls, FUNCTION, None))]
    if len(able) == 1:
        return able[0]
    listed = ", ".join(sorted(cls.__name__ for cls in able or classes))
    raise HandlerLoadFailed(
        f"the handler file {file_name} defines {len(able or classes)} classes "
        f"{'with' if able else 'without'} a method handle ({listed}); "
        f"keep one, or add a function {function}(data, context)"
    )
