"""The metrics that handlers report: whatever names they like, within bounds.

A name keeps the kind it was first seen with. Each model may bring so many sample lines and all
models together so many more; what does not fit is dropped and counted, never an error. Series
that two versions report alike are one series, which lives as long as one of them.
"""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections.abc import Callable, Iterator

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Sample,
    UnknownMetricFamily,
)

from marserve.events import HandlerMetric
from marserve.observe.figures import Counter, Histogram, Labels, legal_name, legal_value
from marserve.refs import ModelRef

MAX_LINES_PER_MODEL = 1_000
MAX_LINES = 10_000
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""TorchServe's histogram bounds, whatever the unit."""

_LINES = {"counter": 1, "gauge": 1, "histogram": len(BOUNDS) + 3}
_MAX_SHORTCUTS = 2 * MAX_LINES


class _Series:
    """One label set of one family."""

    __slots__ = ("figure", "labels", "model", "owners")

    def __init__(self, labels: Labels, figure: Counter | Histogram, model: str) -> None:
        self.labels = labels
        self.figure = figure
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
            return {self.name, self.name.removesuffix("_total")}
        return {self.name, *(f"{self.name}{end}" for end in ("_bucket", "_count", "_sum"))}


class HandlerMetrics:
    """Sole owner of the series that handlers report. Written on the loop, read by a scrape."""

    def __init__(self, hostname: str, is_reserved: Callable[[str], bool]) -> None:
        self._hostname = hostname
        self._is_reserved = is_reserved
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
        self._record(event, series.figure)

    def forget(self, ref: ModelRef, is_last_version: bool) -> None:
        """Drop the series that only `ref` reported."""
        self._shortcuts.clear()
        for family in list(self._families.values()):
            for key, series in list(family.series.items()):
                series.owners.discard(ref)
                if not series.owners:
                    del family.series[key]
                    self._lines[series.model] -= _LINES[family.kind]
            if not family.series:
                self._remove(family)
        self._lines += Tally()  # drops the models that are down to nothing
        if is_last_version:
            for key_dropped in [key for key in self._dropped if key[0] == ref.name]:
                del self._dropped[key_dropped]

    def collect(self) -> Iterator[Metric]:
        """The families as they are now."""
        for family in self._families.copy().values():
            yield _metric(family)
        dropped = CounterMetricFamily(
            "marserve_handler_metrics_dropped",
            "Figures that handlers reported and the server did not keep, by reason.",
            labels=("model_name", "reason"),
        )
        for (model, reason), counter in self._dropped.copy().items():
            dropped.add_metric((legal_value(model), reason), counter.value)
        yield dropped

    def _record(self, event: HandlerMetric, figure: Counter | Histogram) -> None:
        if not math.isfinite(event.value) or (event.kind == "counter" and event.value < 0):
            self._drop(event, "bad_value")
        elif isinstance(figure, Histogram):
            figure.observe(event.value)
        elif event.kind == "counter":
            figure.add(event.value)
        else:
            figure.value = event.value

    def _found(self, event: HandlerMetric) -> _Series | str:
        """The series to record in, made if need be; or the reason why there is none."""
        if event.kind not in _LINES:
            return "unknown_kind"
        name = legal_name(event.name)
        family = self._families.get(name) or _Family(name, event.kind, legal_value(event.unit))
        if family.kind != event.kind or not self._is_free(family):
            return "conflict"
        labels = self._labels(event)
        key = tuple(sorted(labels.items()))
        series = family.series.get(key)
        if series is None:
            if not self._has_room(event.ref.name, _LINES[event.kind]):
                return "too_many_series"
            figure = Histogram(BOUNDS) if event.kind == "histogram" else Counter()
            series = _Series(labels, figure, event.ref.name)
            family.series[key] = series
            self._lines[event.ref.name] += _LINES[event.kind]
            self._add(family)
        series.owners.add(event.ref)
        return series

    def _is_free(self, family: _Family) -> bool:
        return not any(
            self._is_reserved(name) or self._names.get(name, family) is not family
            for name in family.sample_names()
        )

    def _has_room(self, model: str, lines: int) -> bool:
        return (
            self._lines[model] + lines <= MAX_LINES_PER_MODEL
            and self._lines.total() + lines <= MAX_LINES
        )

    def _labels(self, event: HandlerMetric) -> Labels:
        labels = {legal_name(name): legal_value(v) for name, v in event.dimensions.items()}
        if "le" in labels:  # a histogram's own label
            labels["le_"] = labels.pop("le")
        labels["Hostname"] = self._hostname
        return labels

    def _add(self, family: _Family) -> None:
        self._families[family.name] = family
        self._names.update(dict.fromkeys(family.sample_names(), family))

    def _remove(self, family: _Family) -> None:
        del self._families[family.name]
        for name in family.sample_names():
            del self._names[name]

    def _drop(self, event: HandlerMetric, reason: str) -> None:
        self._dropped.setdefault((event.ref.name, reason), Counter()).add()


def _metric(family: _Family) -> Metric:
    documentation = f"A {family.kind} reported by a handler, in {family.unit or 'no unit'}."
    series = family.series.copy().values()
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, documentation)
        for one in series:
            assert isinstance(one.figure, Histogram)
            histogram.samples.extend(one.figure.samples(family.name, one.labels))
        return histogram
    metric: Metric
    if family.kind == "gauge":
        metric = GaugeMetricFamily(family.name, documentation)
    elif family.name.endswith("_total"):
        metric = CounterMetricFamily(family.name, documentation)
    else:  # see marserve.observe.metrics: the library's counters must end in _total
        metric = UnknownMetricFamily(family.name, documentation)
    for one in series:
        assert isinstance(one.figure, Counter)
        metric.samples.append(Sample(family.name, one.labels, one.figure.value))
    return metric
