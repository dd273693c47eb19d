"""The metrics that handlers report: those that are listed, or whatever they like, within bounds.

A name keeps the kind it was first seen with, or is listed with. Each model may bring so many
sample lines and all models together so many more; what does not fit is dropped and counted, never
an error. Series that two versions report alike are one series, which lives as long as one of them.
"""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import Sample

from marserve.events import HandlerMetric
from marserve.observe.exposition import family, is_reserved
from marserve.observe.figures import Counter, Histogram, Labels, legal_name, legal_value
from marserve.observe.metric_specs import BOUNDS, MetricSpec
from marserve.observe.metrics_config import MetricsConfig
from marserve.refs import ModelRef

MAX_LINES_PER_MODEL = 1_000
MAX_LINES = 10_000

_LINES = {"counter": 1, "gauge": 1, "histogram": len(BOUNDS) + 3}
_MAX_SHORTCUTS = 2 * MAX_LINES


class _Series:
    """One label set of one family."""

    __slots__ = ("figure", "kind", "labels", "model", "owners")

    def __init__(self, labels: Labels, kind: str, model: str) -> None:
        self.labels = labels
        self.kind = kind
        self.figure = Histogram(BOUNDS) if kind == "histogram" else Counter()
        self.model = model
        """Whose allowance it uses: the model that brought it."""
        self.owners: set[ModelRef] = set()


class _Family:
    """All series of one name."""

    __slots__ = ("kind", "name", "series", "unit")

    def __init__(self, name: str, kind: str, unit: str) -> None:
        self.name = name
        self.kind = kind
        self.unit = unit
        self.series: dict[tuple[tuple[str, str], ...], _Series] = {}

    def sample_names(self) -> set[str]:
        """Every name that this family may print."""
        if self.kind != "histogram":
            return {self.name}
        return {self.name, *(f"{self.name}{end}" for end in ("_bucket", "_count", "_sum"))}


class HandlerMetrics:
    """Sole owner of the series that handlers report. Written on the loop, read by a scrape."""

    def __init__(self, hostname: str, config: MetricsConfig) -> None:
        self._hostname = hostname
        self._config = config
        self._families: dict[str, _Family] = {}
        self._names: dict[str, _Family] = {}
        self._lines: Tally[str] = Tally()
        self._shortcuts: dict[tuple[object, ...], _Series] = {}
        self._dropped: dict[tuple[str, str], Counter] = {}

    def take(self, event: HandlerMetric) -> None:
        """Record one reported figure, or drop and count it."""
        key = (event.ref, event.name, event.kind, *event.dimensions.items())
        series = self._shortcuts.get(key)
        if series is None:
            found = self._found(event)
            if isinstance(found, str):
                self._drop(event, found)
                return
            if len(self._shortcuts) >= _MAX_SHORTCUTS:
                self._shortcuts.clear()
            series = self._shortcuts[key] = found
        self._record(event, series)

    def forget(self, ref: ModelRef, is_last_version: bool) -> None:
        """Drop the series that only `ref` reported."""
        self._shortcuts.clear()
        for home in list(self._families.values()):
            for key, series in list(home.series.items()):
                series.owners.discard(ref)
                if not series.owners:
                    del home.series[key]
                    self._lines[series.model] -= _LINES[home.kind]
            if not home.series:
                self._remove(home)
        self._lines += Tally()  # drops the models that are down to nothing
        if is_last_version:
            for key_dropped in [key for key in self._dropped if key[0] == ref.name]:
                del self._dropped[key_dropped]

    def collect(self) -> Iterator[Metric]:
        """The families as they are now; one that is listed is shown before it has samples."""
        families = self._families.copy()
        for name, spec in self._config.models.items():
            if name not in families:
                yield family(name, spec.kind, spec.help)
        for one in families.values():
            yield _metric(one)
        yield family(
            "marserve_handler_metrics_dropped_total",
            "counter",
            "Figures that handlers reported and the server did not keep, by reason.",
            (
                Sample(
                    "marserve_handler_metrics_dropped_total",
                    {"model_name": legal_value(model), "reason": reason},
                    counter.value,
                )
                for (model, reason), counter in self._dropped.copy().items()
            ),
        )

    def _record(self, event: HandlerMetric, series: _Series) -> None:
        figure = series.figure
        if not math.isfinite(event.value) or (series.kind == "counter" and event.value < 0):
            self._drop(event, "bad_value")
        elif isinstance(figure, Histogram):
            figure.observe(event.value)
        elif series.kind == "counter":
            figure.add(event.value)
        else:
            figure.value = event.value

    def _found(self, event: HandlerMetric) -> _Series | str:
        """The series to record in, made if need be; or the reason why there is none."""
        shape = self._config.shape(event.name, event.kind, event.unit, event.dimensions)
        if isinstance(shape, str):
            return shape
        if shape.kind not in _LINES:
            return "unknown_kind"
        name = legal_name(event.name)
        home = self._families.get(name) or _Family(name, shape.kind, legal_value(shape.unit))
        if home.kind != shape.kind or not self._is_free(home):
            return "conflict"
        labels = self._labels(shape.labels)
        key = tuple(sorted(labels.items()))
        series = home.series.get(key)
        if series is None:
            if not self._has_room(event.ref.name, _LINES[shape.kind]):
                return "too_many_series"
            series = home.series[key] = _Series(labels, shape.kind, event.ref.name)
            self._lines[event.ref.name] += _LINES[shape.kind]
            self._add(home)
        series.owners.add(event.ref)
        return series

    def _is_free(self, home: _Family) -> bool:
        return not any(
            is_reserved(name) or self._names.get(name, home) is not home
            for name in home.sample_names()
        )

    def _has_room(self, model: str, lines: int) -> bool:
        return (
            self._lines[model] + lines <= MAX_LINES_PER_MODEL
            and self._lines.total() + lines <= MAX_LINES
        )

    def _labels(self, dimensions: Labels) -> Labels:
        labels = {legal_name(name): legal_value(value) for name, value in dimensions.items()}
        if "le" in labels:  # a histogram's own label
            labels["le_"] = labels.pop("le")
        labels["Hostname"] = self._hostname
        return labels

    def _add(self, home: _Family) -> None:
        self._families[home.name] = home
        self._names.update(dict.fromkeys(home.sample_names(), home))

    def _remove(self, home: _Family) -> None:
        del self._families[home.name]
        for name in home.sample_names():
            del self._names[name]

    def _drop(self, event: HandlerMetric, reason: str) -> None:
        self._dropped.setdefault((event.ref.name, reason), Counter()).add()


def _metric(one: _Family) -> Metric:
    shown = family(one.name, one.kind, MetricSpec(one.name, one.kind, one.unit, ()).help)
    for series in one.series.copy().values():
        if isinstance(series.figure, Histogram):
            shown.samples.extend(series.figure.samples(one.name, series.labels))
        else:
            shown.samples.append(Sample(one.name, series.labels, series.figure.value))
    return shown
