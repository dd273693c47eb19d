"""Reads the metrics that a metrics YAML file declares for models, in TorchServe's format.

model_metrics:
  gauge:
    - {name: HandlerTime, unit: ms, dimensions: [ModelName, Level]}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from marserve_handlers.errors import (
    MetricsCacheIOError,
    MetricsCacheKeyError,
    MetricsCachePyYamlError,
    MetricsCacheTypeError,
)
from marserve_handlers.metric_values import MetricTypes

SECTION: Final = "model_metrics"


@dataclass(frozen=True, slots=True)
class Declaration:
    """A metric that models may report."""

    name: str
    unit: str
    """As the file has it: `ms`."""
    dimension_names: tuple[str, ...]
    kind: MetricTypes


DEFAULTS: Final = tuple(
    Declaration(name, "ms", ("ModelName", "Level"), MetricTypes.GAUGE)
    for name in ("HandlerTime", "PredictionTime")
)
"""What is declared where no file is configured."""


def read_declarations(path: str | Path, section: str = SECTION) -> list[Declaration]:
    """What the file declares for models.

    Raises:
        MetricsCacheIOError: the file cannot be read.
        MetricsCachePyYamlError: it is not YAML.
        MetricsCacheKeyError: it has no such section, or an entry lacks a key or has another type.
        MetricsCacheTypeError: something in it has the wrong shape.
    """
    import yaml  # only here: the contract needs no YAML parser

    try:
        document = yaml.safe_load(Path(path).read_bytes())
    except OSError as error:
        raise MetricsCacheIOError(f"The metrics file {path} cannot be read: {error}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MetricsCachePyYamlError(f"The metrics file {path} is not YAML: {error}") from error
    groups = _mapping(document, f"The metrics file {path}").get(section)
    if groups is None:
        raise MetricsCacheKeyError(f"The metrics file {path} has no section {section}.")
    return [
        _declaration(entry, kind, f"{section}.{group} of {path}")
        for group, entries in _mapping(groups, f"{section} of {path}").items()
        for kind in [_kind(group, path)]
        for entry in _list(entries, f"{section}.{group} of {path}")
    ]


def _declaration(entry: Any, kind: MetricTypes, where: str) -> Declaration:
    values = _mapping(entry, f"An entry in {where}")
    for key in ("name", "unit", "dimensions"):
        if key not in values:
            raise MetricsCacheKeyError(f"An entry in {where} has no {key}: {values}.")
    names = _list(values["dimensions"], f"dimensions in {where}")
    return Declaration(str(values["name"]), str(values["unit"]), tuple(map(str, names)), kind)


def _kind(group: Any, path: str | Path) -> MetricTypes:
    try:
        return MetricTypes(group)
    except ValueError:
        known = ", ".join(kind.value for kind in MetricTypes)
        raise MetricsCacheKeyError(
            f"{group!r} in {path} is not a type of metric; use one of {known}."
        ) from None


def _mapping(value: Any, what: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise MetricsCacheTypeError(f"{what} is a mapping, not {type(value).__name__}.")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise MetricsCacheTypeError(f"{what} is a list, not {type(value).__name__}.")
    return value
