"""How long answers took: mean and quantiles of any number of them in a bounded room. Pure.

Each is counted in a bin that is a thousandth as wide as it is far from zero, so an hour's figures
need no more room than a second's, and a quantile is exact to 0.1 %.
"""

from __future__ import annotations

from math import ceil

_BITS = 10
"""Significant bits that a bin keeps of a time in nanoseconds."""
_ROW = 1 << _BITS


class Latencies:
    """A distribution of times in seconds. Owned by one tally."""

    __slots__ = ("_counts", "count", "max_s", "total_s")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.total_s = 0.0
        self.max_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one answer; what is below zero (a clock that was set) counts as zero."""
        ns = int(seconds * 1e9)
        if ns < 0:
            ns, seconds = 0, 0.0
        dropped = ns.bit_length() - _BITS
        key = ns if dropped <= 0 else dropped * _ROW + (ns >> dropped)
        self._counts[key] = self._counts.get(key, 0) + 1
        self.count += 1
        self.total_s += seconds
        self.max_s = max(self.max_s, seconds)

    @property
    def mean_s(self) -> float:
        """The mean; 0 of nothing."""
        return self.total_s / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """The time, in seconds, within which at least `share` (0 to 1) of the answers came.

        0 of nothing.
        """
        rank = max(1, ceil(share * self.count))
        passed = 0
        for key in sorted(self._counts):
            passed += self._counts[key]
            if passed >= rank:
                return min(_middle_s(key), self.max_s)
        return 0.0


def _middle_s(key: int) -> float:
    dropped, mantissa = divmod(key, _ROW)
    ns = mantissa if not dropped else (mantissa + 0.5) * (1 << dropped)
    return ns / 1e9
