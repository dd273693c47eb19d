"""Which input made the model say that: attributions, computed by captum where it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from marserve_handlers.errors import PredictionException


def captum_attr() -> Any:
    """The module `captum.attr`.

    Raises:
        PredictionException: captum is not installed (501).
    """
    try:
        return importlib.import_module("captum.attr")
    except ImportError as error:
        raise PredictionException(
            "Explanations need the package captum on the server, which cannot be imported "
            f"({error}): pip install 'marserve[explain]'.",
            501,
        ) from error


def class_index(target: object) -> Any:
    """The class that an explanation is about, from what a request says under `target`.

    Digits become a number; numbers, and lists of them (a class per row), stay.

    Raises:
        PredictionException: it is something else (400).
    """
    if isinstance(target, bytes | bytearray):
        target = bytes(target).decode("utf-8", "replace")
    if isinstance(target, str) and target.strip().isdecimal():
        return int(target)
    if isinstance(target, int) or (
        isinstance(target, list | tuple) and all(isinstance(entry, int) for entry in target)
    ):
        return target
    raise PredictionException(
        f"The target of an explanation is the index of a class, not {target!r}.", 400
    )


@contextmanager
def known_class(target: object) -> Iterator[None]:
    """Blame a class that the model does not have on the request that asked for it.

    Raises:
        PredictionException: the attribution inside found no such class (400).
    """
    try:
        yield
    except (AssertionError, IndexError) as error:
        raise PredictionException(
            f"The model has no class {target!r} to explain: {error}.", 400
        ) from error
