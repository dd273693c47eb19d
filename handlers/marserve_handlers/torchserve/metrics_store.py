"""Metrics as older handlers make and print them: `Metric` objects, collected in a `MetricsStore`.

What is printed reaches the server through the worker's standard output.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from marserve_handlers import metric_lines
from marserve_handlers.caching_metric import CachingMetric
from marserve_handlers.metric_values import (
    SIZE_UNITS,
    TIME_UNITS,
    UNITS,
    Dimension,
    MetricTypes,
    unit_name,
)


class Units:
    """The units of metrics: `units` maps their short names to the long ones."""

    def __init__(self) -> None:
        self.units = dict(UNITS)


class Metric:
    """One figure with everything that belongs to it. `str(metric)` is its line.

    Args:
        name: of the metric.
        value: the figure.
        unit: a short name of `UNITS`, or one of your own.
        dimensions: its labels.
        request_id: the request, or several joined by commas.
        metric_method: how values combine; None: a counter.
    """

    def __init__(
        self,
        name: str,
        value: float,
        unit: str,
        dimensions: Sequence[Dimension],
        request_id: str | None = None,
        metric_method: MetricTypes | str | None = None,
    ) -> None:
        self.name = name
        self.value = value
        self.unit = unit_name(unit)
        self.dimensions = list(dimensions)
        self.request_id = request_id
        self.metric_method = metric_method
        self.metric_type = MetricTypes(metric_method or MetricTypes.COUNTER)
        names = [dimension.name for dimension in self.dimensions]
        self._caching = CachingMetric(name, unit, names, self.metric_type)

    def update(self, value: float) -> None:
        """Print one more value; this object keeps the one it was made with."""
        self._caching.update(value, self.request_id or "", self.dimensions)

    def reset(self) -> None:
        """Print a zero."""
        self.update(0)

    def __str__(self) -> str:
        return metric_lines.write(
            self.name,
            self.unit,
            self.value,
            self.dimensions,
            socket.gethostname(),
            int(time.time()),
            self.request_id or "",
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything that the line says, by name."""
        return {
            "MetricName": self.name,
            "Value": self.value,
            "Unit": self.unit,
            "Dimensions": self.dimensions,
            "Timestamp": int(time.time()),
            "HostName": socket.gethostname(),
            "RequestId": self.request_id,
        }


class MetricEncoder(json.JSONEncoder):
    """Writes `Metric` and `Dimension` objects as JSON."""

    def default(self, o: Any) -> Any:
        """Their dicts."""
        if isinstance(o, Metric | Dimension):
            return o.to_dict()
        return super().default(o)


class MetricsStore:
    """Collects `Metric` objects, one per name, unit, request and dimensions.

    A second value of the same is printed at once.

    Args:
        request_ids: index in the batch to request id.
        model_name: the value of the dimension `ModelName`.
    """

    def __init__(self, request_ids: Mapping[int, str] | None, model_name: str | None) -> None:
        self.request_ids = request_ids
        self.model_name = model_name
        self.store: list[Metric] = []
        self.cache: dict[tuple[str, ...], Metric] = {}

    def add_counter(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        dimensions: Sequence[Dimension] | None = None,
    ) -> None:
        """Count `value` more of something."""
        self._add(name, value, idx, "count", dimensions, MetricTypes.COUNTER)

    def add_time(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        unit: str = "ms",
        dimensions: Sequence[Dimension] | None = None,
    ) -> None:
        """Report a duration in `ms` or `s`."""
        _check_unit(name, unit, TIME_UNITS)
        self._add(name, value, idx, unit, dimensions)

    def add_size(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        unit: str = "MB",
        dimensions: Sequence[Dimension] | None = None,
    ) -> None:
        """Report a size in `MB`, `kB`, `GB` or `B`."""
        _check_unit(name, unit, SIZE_UNITS)
        self._add(name, value, idx, unit, dimensions)

    def add_percent(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        dimensions: Sequence[Dimension] | None = None,
    ) -> None:
        """Report a share, 0 to 100."""
        self._add(name, value, idx, "percent", dimensions)

    def add_error(
        self, name: str, value: float, dimensions: Sequence[Dimension] | None = None
    ) -> None:
        """Count errors."""
        labels = [*(dimensions or ()), Dimension("Level", "Error")]
        self._put(name, value, None, "", labels, MetricTypes.COUNTER)

    def add_metric(
        self,
        name: str,
        value: float,
        unit: str,
        idx: int | None = None,
        dimensions: Sequence[Dimension] | None = None,
    ) -> None:
        """Report a figure in a unit of your own."""
        self._add(name, value, idx, unit, dimensions)

    def _add(
        self,
        name: str,
        value: float,
        idx: int | None,
        unit: str,
        dimensions: Sequence[Dimension] | None,
        kind: MetricTypes = MetricTypes.GAUGE,
    ) -> None:
        known = self.request_ids or {}
        request_id = (
            known[idx] if idx is not None and idx in known else ",".join(map(str, known.values()))
        )
        labels = [
            *(dimensions or ()),
            Dimension("ModelName", str(self.model_name or "")),
            Dimension("Level", "Model"),
        ]
        self._put(name, value, request_id, unit, labels, kind)

    def _put(
        self,
        name: str,
        value: float,
        request_id: str | None,
        unit: str,
        labels: list[Dimension],
        kind: MetricTypes,
    ) -> None:
        key = (name, unit, request_id or "", *map(str, labels))
        if key in self.cache:
            self.cache[key].update(value)
            return
        metric = Metric(name, value, unit, labels, request_id, kind)
        self.cache[key] = metric
        self.store.append(metric)


def emit_metrics(metrics: Iterable[Metric]) -> None:
    """Print the lines of these metrics, for the server to read."""
    for metric in metrics:
        sys.stdout.write(f"{metric_lines.MARK}{metric}\n")


def _check_unit(name: str, unit: str, known: Sequence[str]) -> None:
    if unit not in known:
        raise ValueError(
            f"Metric {name} cannot be reported in {unit!r}; use one of {', '.join(known)}."
        )
