"""A metric with a fixed unit and fixed dimensions, to which values are reported one by one."""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from marserve_handlers import metric_lines
from marserve_handlers.metric_values import Dimension, MetricSample, MetricTypes, unit_name

_FAILED: Final = (
    f"{metric_lines.MARK}Failed to update metric with name:%s and dimensions: %s with value: %s: %s"
)

_log = logging.getLogger("marserve_handlers.metrics")


class CachingMetric:
    """A metric that was declared.

    Reporting to it never raises: what cannot be recorded is logged and dropped.

    Args:
        metric_name: what it is called.
        unit: `ms`, `s`, `percent`, `count`, `MB`, `kB`, `GB`, `B`, or one of your own.
        dimension_names: which dimensions each value has, in order.
        metric_type: how values combine.
        sink: takes each sample; None: it is printed as TorchServe prints metrics.
    """

    def __init__(
        self,
        metric_name: str,
        unit: str,
        dimension_names: Iterable[str] | None = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
        *,
        sink: Callable[[MetricSample], None] | None = None,
    ) -> None:
        self.metric_name = metric_name
        self.unit = unit_name(unit)
        self.dimension_names = list(dimension_names or ())
        self.metric_type = metric_type
        self._sink = sink

    def add_or_update(
        self, value: float, dimension_values: Sequence[str] = (), request_id: str = ""
    ) -> None:
        """Report a value; one dimension value per dimension name, in order.

        Args:
            value: a number; a counter's is not negative.
            dimension_values: their texts are taken.
            request_id: the request, or several joined by commas.
        """
        if len(dimension_values) != len(self.dimension_names):
            self._complain(
                "",
                value,
                f"it has the dimensions {self.dimension_names}, and these values were given: "
                f"{list(dimension_values)}.",
            )
            return
        values = zip(self.dimension_names, dimension_values, strict=True)
        self._record(value, request_id, [Dimension(name, str(text)) for name, text in values])

    def update(
        self, value: float, request_id: str = "", dimensions: Sequence[Dimension] = ()
    ) -> None:
        """Report a value with dimensions of its own, whatever the metric was declared with."""
        self._record(value, request_id, dimensions)

    def emit_metrics(self, request_id: str, value: float, dimension_string: str) -> None:
        """Print a value as TorchServe prints metrics; the dimensions are `name:value,…`."""
        line = metric_lines.write(
            self.metric_name,
            self.unit,
            value,
            dimension_string,
            socket.gethostname(),
            int(time.time()),
            request_id,
            self.metric_type,
        )
        sys.stdout.write(f"{metric_lines.MARK}{line}\n")

    def _record(self, value: float, request_id: str, dimensions: Sequence[Dimension]) -> None:
        text = ",".join(map(str, dimensions))
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            self._complain(text, value, "it is not a number.")
            return
        if self.metric_type is MetricTypes.COUNTER and number < 0:
            self._complain(text, value, "a counter cannot fall.")
            return
        if self._sink is None:
            self.emit_metrics(request_id or "", value, text)
            return
        labels = {one.name: str(one.value) for one in dimensions}
        requests = tuple(one for one in (request_id or "").split(",") if one)
        kind = self.metric_type.value
        self._sink(MetricSample(self.metric_name, number, self.unit, kind, labels, requests))

    def _complain(self, dimensions: str, value: object, why: str) -> None:
        _log.error(_FAILED, self.metric_name, dimensions, value, why)
