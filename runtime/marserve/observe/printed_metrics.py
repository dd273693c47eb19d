"""Metrics that handlers print on their own: a line `[METRICS]…` is a figure, not a log line.

    [METRICS]Name.Unit:1.5|#Label:value,…|#type:GAUGE|#hostname:box,1714550400,request-id

TorchServe's own workers report that way, so there are handlers that print such lines themselves.
"""

from __future__ import annotations

import logging

from marserve.events import Bus, HandlerMetric
from marserve.observe.logs import MODEL_LOGGER
from marserve.refs import ModelRef
from marserve_handlers import metric_lines

_log = logging.getLogger("marserve.observe")


class PrintedMetrics(logging.Filter):
    """Turns such lines of the model log into events. Runs where workers' output is read."""

    def __init__(self, bus: Bus) -> None:
        super().__init__()
        self._bus = bus

    def attach(self) -> None:
        """Look at all that workers print from now on."""
        logging.getLogger(MODEL_LOGGER).addFilter(self)

    def detach(self) -> None:
        """Look no more."""
        logging.getLogger(MODEL_LOGGER).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line belongs into the log: it does unless it is a metric."""
        ref = getattr(record, "ref", None)
        text = record.getMessage()
        if ref is None or not metric_lines.is_metric_line(text):
            return True
        metric = parse(text, ref)
        if metric is None:
            _log.error('Failed to parse metrics line: "%s".', text)
            return False
        self._bus.publish(metric)
        return False


def parse(line: str, ref: ModelRef) -> HandlerMetric | None:
    """The figure that `line` tells of; None: it is malformed."""
    said = metric_lines.parse(line)
    if said is None:
        return None
    sample = said.sample
    labels = dict(sample.dimensions)
    return HandlerMetric(
        ref, sample.name, sample.value, sample.unit, sample.kind, labels, sample.request_ids
    )
