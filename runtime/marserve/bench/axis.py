"""Scales of plots: where a value lies between two ends, and which round values to name. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10

_MANY_TIMES = 20
"""From this ratio of the largest to the smallest value on, a scale is logarithmic."""
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Axis:
    """From `low` to `high`; `ticks` lie on it and ascend."""

    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False

    def share(self, value: float) -> float:
        """Where the value lies: 0 at `low`, 1 at `high`."""
        if not self.is_log:
            return (value - self.low) / (self.high - self.low)
        return log10(max(value, self.low) / self.low) / log10(self.high / self.low)


def from_zero(values: list[float], about: int = 4) -> Axis:
    """A linear scale from 0 over all values, with `about` so many round steps."""
    top = max(values, default=0.0)
    if top <= 0:
        return Axis(0.0, 1.0, (0.0, 1.0))
    raw = top / about
    unit = 10.0 ** floor(log10(raw))
    step = next((m * unit for m in _STEPS if m * unit >= raw), 10 * unit)
    count = max(1, ceil(top / step - 1e-9))
    return Axis(0.0, count * step, tuple(step * i for i in range(count + 1)))


def spread(values: list[float]) -> Axis:
    """From zero, unless values are far apart: then logarithmic, from decade to decade."""
    positive = [value for value in values if value > 0]
    if not positive or max(positive) < _MANY_TIMES * min(positive):
        return from_zero(values)
    first, last = floor(log10(min(positive))), ceil(log10(max(positive)))
    ticks = tuple(10.0**power for power in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks, is_log=True)
