"""Is it worth waiting a moment for the clients that were just answered? Pure.

Clients that send their next request as soon as they have an answer fall into phases: half of them
wait while the other half is served, and every batch is half empty. If a batch has a fixed cost
(a kernel launch, say), a short wait right after an answer, while they return, pays for itself.

The rule: from the last batches, learn how many requests arrive within the first g seconds after
an answer, for g on a small grid, and the fixed cost `b` of a batch from how its duration grows
with its size. With n requests waiting, e seconds after the last answer, waiting until g gains
`b` for each request that joins and costs each of the n waiting ones `g - e`. Take the best g if
that is a gain. A model without a fixed cost never waits; neither does a lone client.
"""

from __future__ import annotations

from bisect import bisect_left

_GRID_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)
"""Timers of an event loop have a resolution of a millisecond: shorter waits cannot be kept."""
_MEMORY = 0.95
"""Weight of the past against one more batch: about the last twenty batches count."""
_MIN_BATCHES = 8


class Reunion:
    """What the last batches taught. Owned by one Window."""

    def __init__(self, size: int, delay_s: float) -> None:
        self._size = size
        self._delay_s = delay_s
        self._answered_at: float | None = None
        self._batches = 0
        self._arrivals = [0] * len(_GRID_S)
        self._expected = [0.0] * len(_GRID_S)
        # weighted sums of 1, n, d, n², n·d for the line duration = a·n + b
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)

    def arrived(self, now: float) -> None:
        """A request came."""
        if self._answered_at is not None:
            slot = bisect_left(_GRID_S, now - self._answered_at)
            if slot < len(_GRID_S):
                self._arrivals[slot] += 1

    def answered(self, size: int, took_s: float, now: float) -> None:
        """A batch of `size` came back after `took_s`."""
        if self._answered_at is not None:
            total = 0
            for slot, count in enumerate(self._arrivals):
                total += count
                self._expected[slot] += (1.0 - _MEMORY) * (total - self._expected[slot])
            self._arrivals = [0] * len(_GRID_S)
        new = (1.0, float(size), took_s, float(size * size), size * took_s)
        self._sums = (
            _MEMORY * self._sums[0] + new[0],
            _MEMORY * self._sums[1] + new[1],
            _MEMORY * self._sums[2] + new[2],
            _MEMORY * self._sums[3] + new[3],
            _MEMORY * self._sums[4] + new[4],
        )
        self._answered_at = now
        self._batches += 1

    def fixed_cost_s(self) -> float:
        """What a batch costs however small it is; 0 until batches of different sizes were seen."""
        weight, n, d, nn, nd = self._sums
        if self._batches < _MIN_BATCHES:
            return 0.0
        spread = weight * nn - n * n
        if spread <= 1e-6 * weight * weight:
            return 0.0
        slope = max(0.0, (weight * nd - n * d) / spread)
        return max(0.0, (d - slope * n) / weight)

    def hold_until(self, waiting: int, now: float) -> float:
        """How long `waiting` requests should wait for others: a moment from `now` on."""
        if self._answered_at is None or now - self._answered_at > _GRID_S[-1]:
            return now
        cost_s = self.fixed_cost_s()
        horizon_s = min(cost_s, self._delay_s)
        elapsed_s = now - self._answered_at
        seen = self._expected_within(elapsed_s)
        best_gain, best = 0.0, now
        for slot, g in enumerate(_GRID_S):
            if g > horizon_s:
                break
            if g <= elapsed_s:
                continue
            joining = min(self._expected[slot] - seen, self._size - waiting)
            gain = joining * cost_s - waiting * (g - elapsed_s)
            if gain > best_gain:
                best_gain, best = gain, self._answered_at + g
        return best

    def _expected_within(self, elapsed_s: float) -> float:
        slot = bisect_left(_GRID_S, elapsed_s)
        if slot == 0:
            return 0.0
        return self._expected[slot - 1]
