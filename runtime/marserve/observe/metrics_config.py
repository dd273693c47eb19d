"""Which of TorchServe's metrics are shown, and how, as `metrics.yaml` says.

Only `read` opens a file; the rest is pure. The label names of the file belong to label values by
position, as in TorchServe. The server's own `marserve_*` metrics are not affected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from marserve.errors import ConfigInvalid
from marserve.observe.metric_specs import (
    HANDLER_METRICS,
    KINDS,
    OTHER_KINDS,
    SERVER_METRICS,
    MetricSpec,
    long_unit,
)

_SECTIONS = ("ts_metrics", "model_metrics")
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_MAX_CHARS = 1_000_000

NOT_LISTED = "not_listed"
WRONG_DIMENSIONS = "wrong_dimensions"


class Shape(NamedTuple):
    """How a figure that a handler reported is shown. `Hostname` is not among the labels yet."""

    kind: str
    unit: str
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """What is shown of TorchServe's metrics and of those that handlers report."""

    server: Mapping[str, MetricSpec]
    models: Mapping[str, MetricSpec]
    auto_detect: bool
    """Whether handlers may report what `models` does not list."""
    notes: tuple[str, ...] = ()
    """Sentences for the log."""

    def shape(self, name: str, kind: str, unit: str, dimensions: Mapping[str, str]) -> Shape | str:
        """How to show this figure of a handler; or the reason why it is not shown."""
        spec = self.models.get(name)
        if spec is None:
            if not self.auto_detect:
                return NOT_LISTED
            return Shape(kind, long_unit(unit), dict(dimensions))
        if len(spec.labels) != len(dimensions):
            return WRONG_DIMENSIONS
        labels = dict(zip(spec.labels, dimensions.values(), strict=True))
        return Shape(spec.kind, spec.unit, labels)


def default(auto_detect: bool | None = None) -> MetricsConfig:
    """What holds when no file is named: everything is shown."""
    return MetricsConfig(SERVER_METRICS, HANDLER_METRICS, auto_detect is not False)


def read(path: Path | None, auto_detect: bool | None) -> MetricsConfig:
    """The file `metrics_config` names; None: there is none.

    Args:
        path: the value of `metrics_config`.
        auto_detect: the value of `model_metrics_auto_detect`; None: not set.

    Raises:
        ConfigInvalid: the file cannot be read or says what cannot be.
    """
    if path is None:
        return default(auto_detect)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise _invalid(path, "it does not exist") from None
    except UnicodeDecodeError as error:
        raise _invalid(path, "it is not UTF-8 text") from error
    except OSError as error:
        raise _invalid(path, f"it cannot be read ({error.strerror})") from error
    try:
        return parse(text, auto_detect is True)
    except ValueError as error:
        raise _invalid(path, str(error)) from error


def parse(text: str, auto_detect: bool = False) -> MetricsConfig:
    """The text of a `metrics.yaml`.

    Raises:
        ValueError: with what is wrong, as the second half of a sentence.
    """
    document = _document(text)
    notes: list[str] = []
    server = {}
    for spec in _listed(document, "ts_metrics"):
        own = SERVER_METRICS.get(spec.name)
        if own is None:
            notes.append(
                f"metrics_config lists {spec.name} in ts_metrics, which this server does not "
                "measure. A metric of a handler belongs in model_metrics."
            )
            continue
        _check_against(own, spec)
        server[spec.name] = spec
    models = {}
    for spec in _listed(document, "model_metrics"):
        if spec.name in SERVER_METRICS or spec.name.startswith("marserve_"):
            raise ValueError(f"model_metrics lists {spec.name}, which is a metric of the server")
        models[spec.name] = spec
    return MetricsConfig(server, models, auto_detect, tuple(notes))


def _document(text: str) -> dict[str, Any]:
    if len(text) > _MAX_CHARS:
        raise ValueError(f"it is longer than {_MAX_CHARS} characters")
    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"it is not YAML{where}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # values such as 2024-99-99 fail while they are built
        raise ValueError(f"it is not YAML: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("it must hold ts_metrics and model_metrics, each a mapping")
    unknown = [key for key in document if key not in (*_SECTIONS, "dimensions")]
    if unknown:
        raise ValueError(
            f"{unknown[0]!r} is no section; there are dimensions, {' and '.join(_SECTIONS)}"
        )
    return document


def _listed(document: dict[str, Any], section: str) -> Iterator[MetricSpec]:
    kinds = document.get(section)
    if kinds is None:
        return
    if not isinstance(kinds, dict):
        raise ValueError(f"{section} must map counter, gauge and histogram to lists of metrics")
    seen: set[str] = set()
    for kind, metrics in kinds.items():
        if kind not in KINDS:
            raise ValueError(f"{section} has {kind!r}; metrics are {', '.join(KINDS)}")
        if not isinstance(metrics, list | None):
            raise ValueError(f"{section}, {kind}, must be a list of metrics")
        for entry in metrics or ():
            spec = _spec(entry, kind, f"{section}, {kind}")
            if spec.name in seen:
                raise ValueError(f"{section} lists {spec.name} twice")
            seen.add(spec.name)
            yield spec


def _spec(entry: object, kind: str, where: str) -> MetricSpec:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ValueError(f"{where}: every metric needs a name, a unit and dimensions")
    unknown = [key for key in entry if key not in ("name", "unit", "dimensions")]
    if unknown:
        raise ValueError(f"{where}: {entry['name']} has {unknown[0]!r}, which means nothing here")
    name, unit, labels = entry["name"], entry.get("unit"), entry.get("dimensions")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{where}: {name!r} is no name; use letters, digits and _")
    if not isinstance(unit, str):
        raise ValueError(f"{where}: {name} needs a unit, such as Count or ms")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"{where}: {name} needs dimensions, a list of names")
    wrong = [label for label in labels if not _NAME.fullmatch(label) or label.startswith("__")]
    if wrong:
        raise ValueError(f"{where}: {wrong[0]!r} of {name} cannot be the name of a dimension")
    if kind == "histogram" and "le" in labels:
        raise ValueError(f"{where}: le of {name} is the histogram's own dimension")
    if len(set(labels)) < len(labels):
        raise ValueError(f"{where}: {name} has a dimension twice")
    return MetricSpec(name, kind, unit, tuple(labels))


def _check_against(own: MetricSpec, listed: MetricSpec) -> None:
    """Whether a metric that the server measures can be shown like this."""
    if listed.kind != own.kind and listed.kind not in OTHER_KINDS.get(own.name, ()):
        raise ValueError(f"ts_metrics lists {own.name} as {listed.kind}, but it is a {own.kind}")
    if len(listed.labels) != len(own.labels):
        raise ValueError(
            f"ts_metrics gives {own.name} {len(listed.labels)} dimensions, but it has "
            f"{len(own.labels)}: {', '.join(own.labels)}, in this order, under any names"
        )


def _invalid(path: Path, why: str) -> ConfigInvalid:
    return ConfigInvalid(
        f"metrics_config={path} cannot be used: {why}. Mend the file, or leave metrics_config out "
        "to have all metrics."
    )
