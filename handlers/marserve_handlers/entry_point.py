"""From the handler's name to something the worker can call.

Finds the file or the installed handler, picks the function or the class, and hides the
difference. What user code raises while it runs passes through unchanged.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from marserve_handlers.contract import Context
from marserve_handlers.errors import HandlerLoadFailed, HandlerNotFound
from marserve_handlers.model_files import find_file, import_file, list_classes_from_module

FUNCTION: Final = "handle"

FindNamed = Callable[[str], object | None]


class EntryPoint:
    """One handler, class or function, ready to be initialised and called.

    Args:
        target: a class with `handle`, or a function `handle(data, context)`.
        name: how to call it in an error.

    Raises:
        HandlerLoadFailed: the target is neither, or its handle is asynchronous.
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
        if inspect.iscoroutinefunction(function):
            raise HandlerLoadFailed(
                f"{name}: handle is declared with async def, which this server cannot call; "
                "declare it with def"
            )

    def initialize(self, context: Context) -> None:
        """Let the handler load its model: `initialize(context)`, or `function(None, context)`."""
        if self._type is None:
            assert self._function is not None
            self._function(None, context)
            return
        self._instance = self._type()
        self._function = self._instance.handle
        initialize = getattr(self._instance, "initialize", None)
        if initialize is not None:
            initialize(context)

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
        handler: `module.py`, `module`, `folder/module.py:function`, or the name of an installed
            handler. A file of the model directory comes before an installed handler.
        model_dir: where the model's files are; it becomes the first entry of `sys.path`.
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
    raise HandlerNotFound(handler)


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
