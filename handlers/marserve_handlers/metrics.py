"""Figures that a handler reports through `context.metrics`, kept until the server fetches them.

Nothing is printed and nothing is aggregated here: each call records one `MetricSample`, and
`drain` hands them over. At most `MAX_SAMPLES` wait; more are dropped and said so once.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from marserve_handlers.caching_metric import CachingMetric
from marserve_handlers.errors import (
    MetricsCacheKeyError,
    MetricsCacheTypeError,
    MetricsCacheValueError,
)
from marserve_handlers.metric_values import (
    SIZE_UNITS,
    TIME_UNITS,
    Dimension,
    MetricSample,
    MetricTypes,
)
from marserve_handlers.metrics_config import DEFAULTS, Declaration, read_declarations

__all__ = ["MAX_SAMPLES", "CachingMetric", "Dimension", "MetricSample", "MetricTypes", "Metrics"]

MAX_SAMPLES: Final = 10_000

_log = logging.getLogger("marserve_handlers.metrics")


class Metrics:
    """What `context.metrics` is. Owns the samples that nobody has fetched yet.

    A deep copy, such as each request of an asynchronous handler gets, has request ids of its own;
    metrics and samples are shared.

    Args:
        config_file_path: a YAML file that declares metrics; None: TorchServe's two.
        model_name: the value of the dimension `ModelName`.

    Raises:
        MetricsError: the file cannot be read, or does not declare metrics.
    """

    def __init__(
        self, config_file_path: str | Path | None = None, *, model_name: str | None = None
    ) -> None:
        self.config_file_path = config_file_path
        self.model_name = model_name
        self.request_ids: Mapping[int, str] | None = None
        self._declarations: Sequence[Declaration] = (
            DEFAULTS if config_file_path is None else read_declarations(config_file_path)
        )
        self._cache: dict[MetricTypes, dict[str, CachingMetric]] = {}
        self._samples = _Samples()

    def __deepcopy__(self, memo: dict[int, Any]) -> Metrics:
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        memo[id(self)] = copied
        return copied

    def drain(self) -> list[MetricSample]:
        """All samples since the last call, oldest first."""
        return self._samples.drain()

    def set_request_ids(self, request_ids: Mapping[int, str] | None) -> None:
        """The requests that figures belong to from now on, by their index in the batch."""
        self.request_ids = request_ids

    # --- what handlers report -----------------------------------------------------------------

    def add_metric(
        self,
        name: str,
        value: float,
        unit: str,
        idx: int | str | None = None,
        dimensions: Sequence[Dimension] = (),
        metric_type: MetricTypes | str = MetricTypes.COUNTER,
    ) -> None:
        """Record one value of the request `idx`, or of all requests of the batch.

        The first call fixes the metric's unit and the names of its dimensions. `ModelName` and
        `Level` are added where they are absent; before the first request only `Level:Error` is.

        Raises:
            MetricsCacheTypeError: a name, a unit or a dimension is none.
            MetricsCacheValueError: `metric_type` is not one of `MetricTypes`.
        """
        has_requests = bool(self.request_ids)
        labels = self._labels(dimensions, "Model" if has_requests else "Error", has_requests)
        self._report(name, value, unit, labels, metric_type, self._requests(idx))

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
        """Count errors. They belong to no request, and their level is `Error`."""
        labels = self._labels(dimensions, "Error", False)
        self._report(name, value, "", labels, MetricTypes.COUNTER, "")

    # --- metrics that are declared first ------------------------------------------------------

    @property
    def cache(self) -> dict[MetricTypes, dict[str, CachingMetric]]:
        """Every metric that was declared or reported, by type and name."""
        return self._cache

    def cache_keys(self) -> dict[MetricTypes, list[str]]:
        """The names of the metrics in `cache`, by type."""
        return {kind: list(metrics) for kind, metrics in self._cache.items()}

    def initialize_cache(self) -> None:
        """Declare the metrics that the configured file names."""
        for one in self._declarations:
            self.add_metric_to_cache(one.name, one.unit, one.dimension_names, one.kind)

    def add_metric_to_cache(
        self,
        metric_name: str,
        unit: str,
        dimension_names: Iterable[str] = (),
        metric_type: MetricTypes | str = MetricTypes.COUNTER,
    ) -> CachingMetric:
        """Declare a metric once and report to it later. Declaring it again replaces it.

        Raises:
            MetricsCacheTypeError: a name is no str, or `dimension_names` is one.
            MetricsCacheValueError: `metric_type` is not one of `MetricTypes`.
        """
        if isinstance(dimension_names, str):
            raise MetricsCacheTypeError(
                f"dimension_names of {metric_name!r} is a list of names, not {dimension_names!r}."
            )
        names = list(dimension_names)
        for what, text in [("metric's name", metric_name), ("unit", unit)]:
            _check_str(what, text)
        kind = _checked_type(metric_type)
        metric = CachingMetric(metric_name, unit, names, kind, sink=self._samples.put)
        self._cache.setdefault(kind, {})[metric_name] = metric
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
            return self._cache[kind][metric_name]
        except KeyError:
            raise MetricsCacheKeyError(
                f"There is no {kind.value} called {metric_name!r}: declare it with "
                "add_metric_to_cache first."
            ) from None

    def _report(
        self,
        name: str,
        value: float,
        unit: str,
        labels: Mapping[str, str],
        metric_type: MetricTypes | str,
        request_ids: str,
    ) -> None:
        metric = self._cache.get(_checked_type(metric_type), {}).get(name)
        if metric is None:
            metric = self.add_metric_to_cache(name, unit, labels, metric_type)
        metric.add_or_update(value, list(labels.values()), request_ids)

    def _labels(
        self, dimensions: Sequence[Dimension], level: str, with_model: bool
    ) -> dict[str, str]:
        try:
            labels = {one.name: str(one.value) for one in dimensions}
        except (AttributeError, TypeError):
            raise MetricsCacheTypeError(
                f"dimensions is a list of Dimension objects, not {dimensions!r}."
            ) from None
        if with_model:
            labels.setdefault("ModelName", str(self.model_name or ""))
        labels.setdefault("Level", level)
        return labels

    def _requests(self, idx: int | str | None) -> str:
        """The id of request `idx`; the ids of all when there is no such request."""
        known = self.request_ids or {}
        if isinstance(idx, int) and idx in known:
            return known[idx]
        return ",".join(known.values())


class _Samples:
    """A bounded queue; handlers may fill it from several threads."""

    def __init__(self) -> None:
        self._waiting: deque[MetricSample] = deque()
        self._has_complained = False

    def put(self, sample: MetricSample) -> None:
        if len(self._waiting) < MAX_SAMPLES:
            self._waiting.append(sample)
        elif not self._has_complained:
            self._has_complained = True
            _log.warning(
                "more than %d metric samples wait to be fetched; further ones are dropped",
                MAX_SAMPLES,
            )

    def drain(self) -> list[MetricSample]:
        # popping never loses what other threads add meanwhile
        return [self._waiting.popleft() for _ in range(len(self._waiting))]


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


def _check_str(what: str, text: object) -> None:
    if not isinstance(text, str):
        raise MetricsCacheTypeError(f"A {what} is a str, not {type(text).__name__}: {text!r}.")
