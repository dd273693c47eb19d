"""What one reported figure is made of: its type, its unit, its labels. Pure data.

Units have TorchServe's long names everywhere inside (`Milliseconds`), and its short ones (`ms`)
where handlers write them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final


class MetricTypes(Enum):
    """How values of one metric combine."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(slots=True, unsafe_hash=True)
class Dimension:
    """A label of a metric and its value. Printed as `name:value`."""

    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}:{self.value}"

    def to_dict(self) -> dict[str, str]:
        """Name and value under the keys that TorchServe's JSON has."""
        return {"Name": self.name, "Value": self.value}


@dataclass(frozen=True, slots=True)
class MetricSample:
    """One figure, reported once."""

    name: str
    value: float
    unit: str
    """The long name: Milliseconds, Count, …; a unit of the handler's own stays as it is."""
    kind: str
    """counter, gauge or histogram."""
    dimensions: Mapping[str, str]
    request_ids: tuple[str, ...] = ()
    """The requests that it belongs to; none while the model loads, or where nobody said."""


TIME_UNITS: Final = ("ms", "s")
SIZE_UNITS: Final = ("MB", "kB", "GB", "B")

UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ms": "Milliseconds",
        "s": "Seconds",
        "percent": "Percent",
        "count": "Count",
        "MB": "Megabytes",
        "kB": "Kilobytes",
        "GB": "Gigabytes",
        "B": "Bytes",
        "": "unit",
    }
)
"""What handlers write to what metrics say."""


def unit_name(unit: str | None) -> str:
    """The long name of a unit; one that is not in `UNITS` is its own."""
    return UNITS.get(unit or "", unit or "")
