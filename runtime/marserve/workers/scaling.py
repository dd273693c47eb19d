"""How many workers, between the fewest and the most, a version should have now. Pure.

Up: a request has waited for `up_s` while every worker was there to serve: one more. With no worker
at all, the first request that comes starts one. Down: for `down_s` at least one worker was never
needed: one fewer, down to the fewest, which may be none. Time comes in as an argument (seconds).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScalingLimits:
    """The range, and how long a shortage or a surplus must last."""

    fewest: int
    most: int
    up_s: float
    down_s: float


@dataclass(frozen=True, slots=True)
class Demand:
    """A version at one moment."""

    wanted: int
    """Workers there should be, so far."""
    ready: int
    waiting_s: float | None
    """How long the oldest waiting request has waited; None when none waits."""


class Scaler:
    """Remembers what was needed lately. Owned by one deployment."""

    def __init__(self, limits: ScalingLimits, now: float) -> None:
        self._limits = limits
        self._peak = 0
        self._peak_before = 0
        """The most workers busy at once, in this period of `down_s` and in the one before."""
        self._period_since = now
        self._periods = 0

    def saw(self, busy: int) -> None:
        """So many workers were busy at once."""
        self._peak = max(self._peak, busy)

    def wanted(self, demand: Demand, now: float) -> int:
        """How many workers there should be from now on."""
        limits = self._limits
        count = min(max(demand.wanted, limits.fewest), limits.most)
        self._turn_period(now)
        if demand.waiting_s is not None:
            self.saw(demand.ready)  # all of them are needed
            is_short = count == 0 or (demand.ready >= count and demand.waiting_s >= limits.up_s)
            return min(count + 1, limits.most) if is_short else count
        needed = max(self._peak, self._peak_before)
        if self._periods >= 1 and needed < count and count > limits.fewest:
            self._begin(now)
            return count - 1
        return count

    def _turn_period(self, now: float) -> None:
        if now - self._period_since >= self._limits.down_s:
            self._peak_before, self._peak = self._peak, 0
            self._period_since = now
            self._periods += 1

    def _begin(self, now: float) -> None:
        """A step down was taken: watch a whole period before the next one."""
        self._peak_before, self._peak = 0, 0
        self._period_since = now
        self._periods = 0
