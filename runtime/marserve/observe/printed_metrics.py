"""Metrics that handlers print on their own: a line `[METRICS]…` is a figure, not a log line.

    [METRICS]Name.Unit:1.5|#Label:value,…|#type:GAUGE|#hostname:box,1714550400,request-id

TorchServe's own workers report that way, so there are handlers that print such lines themselves.
"""

from __future__ import annotations

import logging
import re

from marserve.events import Bus, HandlerMetric
from marserve.observe.logs import MODEL_LOGGER
from marserve.refs import ModelRef

_PREFIX = "[METRICS]"
_LINE = re.compile(
    r"\[METRICS\](?P<name>[^.:|\s][^:|]*)\.(?P<unit>[^.:|]*):\s*(?P<value>[-+0-9.eE]+)"
    r"\|#(?P<labels>[^|]*)"
    r"(?:\|#type:(?P<kind>COUNTER|GAUGE|HISTOGRAM))?"
    r"\|#hostname:(?P<host>[^,|]*)(?:,(?P<moment>\d+))?(?:,(?P<ids>[^|]*))?\s*"
)

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
        if ref is None or not text.startswith(_PREFIX):
            return True
        metric = parse(text, ref)
        if metric is None:
            _log.error('Failed to parse metrics line: "%s".', text)
            return False
        self._bus.publish(metric)
        return False


def parse(line: str, ref: ModelRef) -> HandlerMetric | None:
    """The figure that `line` tells of; None: it is malformed."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    try:
        value = float(match["value"])
    except ValueError:
        return None
    labels = _labels(match["labels"])
    if labels is None:
        return None
    ids = tuple(filter(None, (match["ids"] or "").split(",")))
    kind = (match["kind"] or "COUNTER").lower()
    return HandlerMetric(ref, match["name"], value, match["unit"], kind, labels, ids)


def _labels(text: str) -> dict[str, str] | None:
    pairs = [part.partition(":") for part in text.split(",")] if text else []
    if not all(name and colon for name, colon, _ in pairs):
        return None
    return {name: value for name, _, value in pairs}
