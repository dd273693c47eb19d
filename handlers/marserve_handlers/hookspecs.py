"""Every hook of MarServe: the whole contract between the server and a package of handlers.

A plugin decorates functions of these names with `hookimpl`, and its distribution lists the module
that holds them under the entry-point group `marserve`. See docs/handlers.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pluggy

PROJECT: Final = "marserve"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def marserve_handler(name: str) -> type | Callable[..., Any] | None:
    """The handler called `name`, a class or a function; None if it is not one of yours."""


@hookspec
def marserve_handler_names() -> list[str]:  # type: ignore[empty-body] # a spec has no body
    """The names of all handlers that you bring."""


@hookspec(firstresult=True)
def marserve_preload(name: str) -> list[str] | None:
    """Modules worth importing before workers that run your handler `name` are forked."""
