"""Whether a download comes fast enough to go on. Pure: the clock comes in as an argument.

A sender that drips keeps every wait short, so a limit on silence never meets it. Each window of
time must bring its share of bytes; slow beginnings are nobody's fault and have a window as well.
"""

from __future__ import annotations


class RateFloor:
    """One download. Times are in seconds of one clock, sizes in bytes."""

    def __init__(self, bytes_per_s: float, window_s: float, now: float) -> None:
        self._window_s = window_s
        self._share_bytes = bytes_per_s * window_s
        self._since = now
        self._size_bytes = 0

    def holds(self, size_bytes: int, now: float) -> bool:
        """Count bytes that have come; False: the window that ends here brought too few."""
        self._size_bytes += size_bytes
        if now - self._since < self._window_s:
            return True
        is_enough = self._size_bytes >= self._share_bytes
        self._since, self._size_bytes = now, 0
        return is_enough
