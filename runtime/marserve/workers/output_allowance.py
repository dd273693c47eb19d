"""How many lines a worker may have printed into the log. Pure: the clock comes in as an argument.

Every line costs the server's loop a little; a handler that prints without end must not cost it more
than that. What goes beyond is dropped and counted, and the log says how much it was.
"""

from __future__ import annotations

LINES_PER_S = 1000.0
BURST_LINES = 5000.0
TELL_EVERY_S = 1.0


class OutputAllowance:
    """The allowance of one stream. Times are in seconds of one clock."""

    def __init__(
        self, lines_per_s: float = LINES_PER_S, burst_lines: float = BURST_LINES, now: float = 0.0
    ) -> None:
        self._lines_per_s = lines_per_s
        self._burst_lines = burst_lines
        self._left = burst_lines
        self._at = now
        self._dropped = 0
        self._told_at = now

    def takes(self, now: float) -> bool:
        """Whether one more line may be logged; if not, it is counted."""
        passed_s = max(0.0, now - self._at)
        self._left = min(self._burst_lines, self._left + passed_s * self._lines_per_s)
        self._at = now
        if self._left < 1.0:
            self._dropped += 1
            return False
        self._left -= 1.0
        return True

    def untold(self, now: float, is_last: bool = False) -> int:
        """How many lines were dropped since this was last told; 0 where that was just now.

        `is_last`: nothing follows, so tell what is left.
        """
        if not self._dropped or not (is_last or now - self._told_at >= TELL_EVERY_S):
            return 0
        dropped, self._dropped, self._told_at = self._dropped, 0, now
        return dropped
