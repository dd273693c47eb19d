"""Imports packages that only some handlers need, and says what to install where one is missing."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from marserve_handlers.errors import HandlerLoadFailed


def required(module: str, needed_by: str, install: str) -> Any:
    """The module `module`.

    Args:
        module: its dotted name.
        needed_by: whose need it is: `the handler vllm_handler`.
        install: what to give to `pip install`.

    Raises:
        HandlerLoadFailed: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise HandlerLoadFailed(
            f"{needed_by} needs the package {package}, whose module {module} cannot be imported "
            f"({error}): pip install {install}, or put it into the archive's requirements.txt"
        ) from error


def first_found(name: str, modules: Sequence[str], needed_by: str, install: str) -> Any:
    """The attribute `name` of the first of `modules` that has it: packages move things about.

    Raises:
        HandlerLoadFailed: none of them can be imported, or none has it.
    """
    for module in modules:
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ImportError:
            continue
        if found is not None:
            return found
    required(modules[0].partition(".")[0], needed_by, install)
    raise HandlerLoadFailed(
        f"{needed_by} finds {name} in none of {', '.join(modules)}: the installed release is not "
        f"one that it knows; pip install another release of {install}"
    )
