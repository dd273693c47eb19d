"""Figures that a handler reports through `context.metrics`, kept until the server fetches them.

Nothing is printed and nothing is aggregated here: each call records one `MetricSample`, and
`drain` hands them over. At most `MAX_SAMPLES` wait; more are dropped and said so once.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from marserve_handlers.errors import MetricsCacheKeyError, MetricsCacheValueError

MAX_SAMPLES: Final = 10_000
TIME_UNITS: Final = ("ms", "s")
SIZE_UNITS: Final = ("MB", "kB", "GB", "B")

_log = logging.getLogger("marserve_handlers.metrics")


class MetricTypes(Enum):
    """How values of one metric combine."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Dimension:
    """A label of a metric and its value. Printed as `name:value`."""

    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}:{self.value}"


@dataclass(frozen=True, slots=True)
class MetricSample:
    """One figure, reported once."""

    name: str
    value: float
    unit: str
    """ms, s, percent, count, MB, kB, GB, B, or whatever the handler said."""
    kind: str
    """counter, gauge or histogram."""
    dimensions: Mapping[str, str]


class Metrics:
    """What `context.metrics` is. Owns the samples that nobody has fetched yet."""

    def __init__(self, model_name: str) -> None:
        self._model_name = model_name
        self._samples: deque[MetricSample] = deque()
        self._declared: dict[tuple[MetricTypes, str], CachingMetric] = {}
        self._has_complained = False

    def drain(self) -> list[MetricSample]:
        """All samples since the last call, oldest first."""
        if not self._samples:
            return []
        # threads of the handler may be recording: popping never loses what they add meanwhile
        return [self._samples.popleft() for _ in range(len(self._samples))]

    def add_metric(
        self,
        name: str,
        value: float,
        unit: str,
        idx: int | str | None = None,
        dimensions: Sequence[Dimension] = (),
        metric_type: MetricTypes | str = MetricTypes.COUNTER,
    ) -> None:
        """Record one value. `idx`, the request it belongs to, is taken and not recorded.

        Raises:
            MetricsCacheValueError: `metric_type` is not one of `MetricTypes`.
        """
        kind = _checked_type(metric_type)
        labels = self._labels(dimensions, level="Model")
        if (kind, name) not in self._declared:
            self._declared[kind, name] = CachingMetric(self, name, unit, tuple(labels), kind)
        self.record(name, value, unit, kind, labels)

    def add_counter(
        self,
        name: str,
        value: float,
        idx: int | str | None = None,
        dimensions: Sequence[Dimension] = (),
    ) -> None:
        """Count `value` more of something."""
        self.add_metric(name, value, "count", idx, dimensions, MetricTypes.COUNTER)

    def add_time(
        self,
        name: str,
        value: float,
        idx: int | str | None = None,
        unit: str = "ms",
        dimensions: Sequence[Dimension] = (),
        metric_type: MetricTypes | str = MetricTypes.GAUGE,
    ) -> None:
        """Report a duration in `ms` or `s`."""
        _check_unit(name, unit, TIME_UNITS)
        self.add_metric(name, value, unit, idx, dimensions, metric_type)

    def add_size(
        self,
        name: str,
        value: float,
        idx: int | str | None = None,
        unit: str = "MB",
        dimensions: Sequence[Dimension] = (),
        metric_type: MetricTypes | str = MetricTypes.GAUGE,
    ) -> None:
        """Report a size in `MB`, `kB`, `GB` or `B`."""
        _check_unit(name, unit, SIZE_UNITS)
        self.add_metric(name, value, unit, idx, dimensions, metric_type)

    def add_percent(
        self,
        name: str,
        value: float,
        idx: int | str | None = None,
        dimensions: Sequence[Dimension] = (),
        metric_type: MetricTypes | str = MetricTypes.GAUGE,
    ) -> None:
        """Report a share, 0 to 100."""
        self.add_metric(name, value, "percent", idx, dimensions, metric_type)

    def add_error(self, name: str, value: float, dimensions: Sequence[Dimension] = ()) -> None:
        """Count errors."""
        labels = self._labels(dimensions, level="Error")
        self.record(name, value, "count", MetricTypes.COUNTER, labels)

    def add_metric_to_cache(
        self,
        metric_name: str,
        unit: str,
        dimension_names: Iterable[str] = (),
        metric_type: MetricTypes | str = MetricTypes.COUNTER,
    ) -> CachingMetric:
        """Declare a metric once and report to it later. Declaring it again replaces it."""
        kind = _checked_type(metric_type)
        metric = CachingMetric(self, metric_name, unit, tuple(dimension_names), kind)
        self._declared[kind, metric_name] = metric
        return metric

    def get_metric(
        self, metric_name: str, metric_type: MetricTypes | str = MetricTypes.COUNTER
    ) -> CachingMetric:
        """A metric that was declared or recorded before.

        Raises:
            MetricsCacheKeyError: there is none of this name and type.
        """
        kind = _checked_type(metric_type)
        try:
            return self._declared[kind, metric_name]
        except KeyError:
            raise MetricsCacheKeyError(
                f"There is no {kind.value} called {metric_name!r}: declare it with "
                "add_metric_to_cache first."
            ) from None

    def record(
        self,
        name: str,
        value: float,
        unit: str,
        kind: MetricTypes,
        labels: Mapping[str, str],
    ) -> None:
        """Keep one sample. A value that cannot be one is logged and dropped, never raised."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            _log.error("metric %s was not recorded: %r is not a number", name, value)
            return
        if kind is MetricTypes.COUNTER and number < 0:
            _log.error("metric %s was not recorded: a counter cannot fall by %s", name, -number)
            return
        if len(self._samples) >= MAX_SAMPLES:
            self._complain()
            return
        self._samples.append(MetricSample(name, number, unit, kind.value, labels))

    def _complain(self) -> None:
        if not self._has_complained:
            self._has_complained = True
            _log.warning(
                "more than %d metric samples wait to be fetched; further ones are dropped",
                MAX_SAMPLES,
            )

    def _labels(self, dimensions: Sequence[Dimension], level: str) -> dict[str, str]:
        labels = {dimension.name: str(dimension.value) for dimension in dimensions}
        labels.setdefault("ModelName", self._model_name)
        labels.setdefault("Level", level)
        return labels


class CachingMetric:
    """A metric with fixed unit and labels, to which values are reported one by one."""

    def __init__(
        self,
        metrics: Metrics,
        name: str,
        unit: str,
        dimension_names: Sequence[str],
        metric_type: MetricTypes,
    ) -> None:
        self.metric_name = name
        self.unit = unit
        self.dimension_names = list(dimension_names)
        self.metric_type = metric_type
        self._metrics = metrics

    def add_or_update(
        self, value: float, dimension_values: Sequence[str] = (), request_id: str = ""
    ) -> None:
        """Report a value; one dimension value per dimension name, in order."""
        if len(dimension_values) != len(self.dimension_names):
            _log.error(
                "metric %s was not recorded: it has the dimensions %s, but %d values were given",
                self.metric_name,
                self.dimension_names,
                len(dimension_values),
            )
            return
        values = map(str, dimension_values)
        labels = dict(zip(self.dimension_names, values, strict=True))
        self._metrics.record(self.metric_name, value, self.unit, self.metric_type, labels)

    def update(
        self, value: float, request_id: str = "", dimensions: Sequence[Dimension] = ()
    ) -> None:
        """Report a value with `Dimension` objects in the order of the dimension names."""
        self.add_or_update(value, [dimension.value for dimension in dimensions], request_id)


def _checked_type(metric_type: MetricTypes | str) -> MetricTypes:
    try:
        return MetricTypes(metric_type)
    except ValueError:
        known = ", ".join(kind.value for kind in MetricTypes)
        raise MetricsCacheValueError(
            f"{metric_type!r} is not a type of metric; use one of {known}."
        ) from None


def _check_unit(name: str, unit: str, known: Sequence[str]) -> None:
    if unit not in known:
        raise MetricsCacheValueError(
            f"Metric {name} cannot be reported in {unit!r}; use one of {', '.join(known)}."
        )
