"""What `optimize` in a model's YAML file asks for. Pure: no framework, no files.

    optimize: auto
    optimize: {dtype: bfloat16, memory_format: channels_last, tolerance: 0.02}
    optimize: {auto: true, compile: true, budget: 60}

A wrong value is an error that names the key: a model that was meant to be optimised is not quietly
served as it is because of a typing mistake.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from marserve_handlers.errors import HandlerLoadFailed

KEY: Final = "optimize"
DTYPES: Final = ("float32", "bfloat16", "float16")
MEMORY_FORMATS: Final = ("contiguous", "channels_last")


@dataclass(frozen=True, slots=True)
class Change:
    """How a model is changed. The one that changes nothing is the plain model."""

    dtype: str = "float32"
    memory_format: str = "contiguous"
    freeze: bool = False
    """TorchScript: weights become constants, and operators are fused over them."""
    compile: Mapping[str, Any] | None = None
    """The arguments of `torch.compile`; None: the model is not compiled."""

    @property
    def is_plain(self) -> bool:
        """Whether it changes nothing."""
        return self == PLAIN

    def __str__(self) -> str:
        said = [self.dtype] if self.dtype != PLAIN.dtype else []
        said += [self.memory_format] if self.memory_format != PLAIN.memory_format else []
        said += ["freeze"] if self.freeze else []
        if self.compile is not None:
            options = ", ".join(f"{name}={value}" for name, value in self.compile.items())
            said.append(f"compile({options})" if options else "compile")
        return " + ".join(said) or "plain"


PLAIN: Final = Change()


@dataclass(frozen=True, slots=True)
class OptimizeSettings:
    """The key's value, checked.

    Attributes:
        is_auto: whether the fastest of several changes is to be found.
        change: what is asked for by name; with `is_auto` only its `compile` counts.
        tolerance: by how much outputs may differ, relative to the largest of the plain model.
        agreement: for how many rows of the sample, at least, both name the same likeliest class.
        min_gain: `auto` keeps a change only if it is so many times as fast as the plain model.
        budget_s: how long `auto` may measure.
        sample: a file of the archive, or the shape of the model's input; None: the handler's own.
        is_checked: whether changes that were asked for by name are compared at all.
    """

    is_auto: bool = False
    change: Change = PLAIN
    tolerance: float = 0.05
    agreement: float = 0.75
    min_gain: float = 1.1
    budget_s: float = 8.0
    sample: str | tuple[int, ...] | None = None
    is_checked: bool = True


def optimize_settings(document: Mapping[str, Any]) -> OptimizeSettings | None:
    """What the whole YAML document says under `optimize`; None: nothing, or that it is off.

    Raises:
        HandlerLoadFailed: a key is unknown, or a value is none that it can have.
    """
    value = document.get(KEY)
    if value is None or value is False:
        return None
    if value in ("auto", True):
        return OptimizeSettings(is_auto=True)
    if not isinstance(value, Mapping):
        raise HandlerLoadFailed(
            f"{KEY} is {value!r}; in model-config.yaml it is auto, or settings by name such as "
            "{dtype: bfloat16, memory_format: channels_last}"
        )
    taken = {_known(name): given for name, given in value.items() if given is not None}
    for name, given in taken.items():
        if not _KEYS[name].fits(given):
            raise HandlerLoadFailed(f"{KEY}.{name} is {given!r}, not {_KEYS[name].expected}")
    read = {_KEYS[name].field: _KEYS[name].convert(given) for name, given in taken.items()}
    change = Change(**{name: read.pop(name) for name in _CHANGES & read.keys()})
    settings = OptimizeSettings(change=change, **read)
    _check_together(settings)
    return settings


def _check_together(settings: OptimizeSettings) -> None:
    change = settings.change
    if settings.is_auto and (change.freeze or Change(compile=change.compile) != change):
        raise HandlerLoadFailed(
            f"{KEY}.auto finds dtype, memory_format and freeze itself; name either auto (and "
            "compile, which takes long to try) or what is to be applied"
        )
    if settings.is_auto and not settings.is_checked:
        raise HandlerLoadFailed(f"{KEY}.check is false, but {KEY}.auto has to compare")
    if change.freeze and change.compile is not None:
        raise HandlerLoadFailed(
            f"{KEY}.freeze is for TorchScript and {KEY}.compile for models with python code; name "
            "one of them"
        )


@dataclass(frozen=True, slots=True)
class _Key:
    field: str
    expected: str
    fits: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value


def _flag(name: str) -> _Key:
    return _Key(name, "true or false", lambda value: type(value) is bool)


def _one_of(name: str, choices: tuple[str, ...]) -> _Key:
    return _Key(name, " or ".join(choices), lambda value: value in choices)


def _number(name: str, least: float, most: float) -> _Key:
    return _Key(
        name,
        f"a number from {least:g} to {most:g}",
        lambda value: _is_number(value) and least <= value <= most,
        float,
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_sample(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value)
    return (
        isinstance(value, list)
        and bool(value)
        and all(type(size) is int and size > 0 for size in value)
    )


def _compile_options(value: bool | dict[str, Any]) -> dict[str, Any] | None:
    if isinstance(value, bool):
        return {} if value else None
    if value.get("enable") is False:
        return None
    return {name: option for name, option in value.items() if name != "enable"}


_KEYS: Final[dict[str, _Key]] = {
    "auto": _flag("is_auto"),
    "dtype": _one_of("dtype", DTYPES),
    "memory_format": _one_of("memory_format", MEMORY_FORMATS),
    "freeze": _flag("freeze"),
    "compile": _Key(
        "compile",
        "true, false or arguments of torch.compile by name",
        lambda value: (
            isinstance(value, bool)
            or (isinstance(value, dict) and all(isinstance(name, str) for name in value))
        ),
        _compile_options,
    ),
    "tolerance": _number("tolerance", 0, 10),
    "agreement": _number("agreement", 0, 1),
    "gain": _number("min_gain", 1, 100),
    "budget": _number("budget_s", 0.1, 3600),
    "sample": _Key(
        "sample",
        "the name of a file in the archive or the shape of an input such as [1, 3, 224, 224]",
        _is_sample,
        lambda value: tuple(value) if isinstance(value, list) else value,
    ),
    "check": _flag("is_checked"),
}

_CHANGES: Final = {one.name for one in fields(Change)}


def _known(name: object) -> str:
    if isinstance(name, str) and name in _KEYS:
        return name
    near = difflib.get_close_matches(str(name), _KEYS, n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    raise HandlerLoadFailed(
        f"{KEY} has no setting {str(name)!r}{meant} It takes {', '.join(_KEYS)}"
    )
