"""The text form of a metric, as TorchServe's handlers print it on their standard output.

    [METRICS]HandlerTime.Milliseconds:12.3|#ModelName:m,Level:Model|#type:GAUGE|#hostname:box,1714550400,id1,id2

Pure: host name and time are arguments. Handlers older than the types print no `|#type:…` part;
what they count is a counter, everything else a gauge.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from marserve_handlers.metric_values import Dimension, MetricSample, MetricTypes

MARK: Final = "[METRICS]"
MAX_LINE_CHARS: Final = 16_384

_LINE: Final = re.compile(
    r"\s*(?P<name>[\w\s]+)\.(?P<unit>[\w\s]+):(?P<value>[-0-9.eE+]+)"
    r"\|#(?P<dimensions>[^|]*)"
    r"(?:\|#type:(?P<kind>[A-Za-z]+))?"
    r"\|#hostname:(?P<host>[^,|]+),(?P<time>[0-9.]+)(?:,(?P<requests>.*))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class MetricLine:
    """What one line says."""

    sample: MetricSample
    hostname: str
    timestamp_s: float
    """Seconds since the epoch."""


def is_metric_line(line: str) -> bool:
    """Whether the line claims to be a metric; `parse` says whether it is one."""
    return line.startswith(MARK)


def parse(line: str) -> MetricLine | None:
    """The figure in a line that a worker printed; None when it holds none.

    The line `[METRICS]Failed to update metric …` is a complaint and no metric: None, too.
    """
    if not line.startswith(MARK) or len(line) > MAX_LINE_CHARS:
        return None
    found = _LINE.fullmatch(line.rstrip("\r\n"), len(MARK))
    if found is None:
        return None
    dimensions = _dimensions(found["dimensions"])
    kind = (found["kind"] or _likely_kind(found["unit"])).lower()
    if dimensions is None or kind not in _KINDS:
        return None
    try:
        value = float(found["value"])
        timestamp_s = float(found["time"])
    except ValueError:
        return None
    requests = tuple(one for one in (found["requests"] or "").split(",") if one)
    name = found["name"].strip()
    sample = MetricSample(name, value, found["unit"], kind, dimensions, requests)
    return MetricLine(sample, found["host"], timestamp_s)


def write(
    name: str,
    unit: str,
    value: object,
    dimensions: Sequence[Dimension] | str,
    hostname: str,
    timestamp_s: int,
    request_ids: str = "",
    kind: MetricTypes | None = None,
) -> str:
    """The line of a figure, without the mark at its front.

    Args:
        name: of the metric.
        unit: its long name.
        value: printed as it is.
        dimensions: objects that print as `name:value`, or their text.
        hostname: the machine.
        timestamp_s: seconds since the epoch.
        request_ids: joined by commas; "" when there are none.
        kind: None writes the older form, without a type.
    """
    labels = dimensions if isinstance(dimensions, str) else ",".join(map(str, dimensions))
    type_part = "" if kind is None else f"|#type:{kind.name}"
    requests = f",{request_ids}" if request_ids else ""
    return (
        f"{name}.{unit}:{value}|#{labels}{type_part}|#hostname:{hostname},{timestamp_s}{requests}"
    )


_KINDS: Final = frozenset(kind.value for kind in MetricTypes)


def _likely_kind(unit: str) -> str:
    return "counter" if unit.lower() == "count" else "gauge"


def _dimensions(text: str) -> dict[str, str] | None:
    """`a:b,c:d` as a dict; None where a piece is no pair. A value may hold colons."""
    if not text:
        return {}
    pairs = [piece.partition(":") for piece in text.split(",")]
    if not all(name and colon for name, colon, _ in pairs):
        return None
    return {name: value for name, _, value in pairs}
