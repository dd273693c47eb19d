"""Has a queue stood for too long, and who is dropped then? Pure.

Controlled delay, in the form that servers use: a queue is for bursts, so in a healthy server it is
short at least once in every interval. Where even the shortest wait of an interval was longer than
the target the queue stands, and whoever has waited twice the target is dropped when its turn comes,
until an interval ends in which somebody waited less.

`docs/decisions/0018-overload.md` says why this is no default.
"""

from __future__ import annotations

LEAST_TARGET_S = 0.005
LEAST_INTERVAL_S = 0.1
_TARGET_BATCHES = 0.5
_INTERVAL_BATCHES = 2.0
_LATE = 2.0


class CoDel:
    """What a queue's latest waits say. Owned by one Window."""

    def __init__(self) -> None:
        self.is_standing = False
        """Whether the queue did not empty for a whole interval."""
        self._least_s = 0.0
        self._ends_at = 0.0

    def is_late(
        self, waited_s: float, now: float, batch_s: float = 0.0, slow_batch_s: float = 0.0
    ) -> bool:
        """Whether a request whose turn has come, after `waited_s`, is dropped instead.

        `batch_s` and `slow_batch_s`: what a full batch usually takes, and a slow one; 0: unknown.
        """
        target_s = max(LEAST_TARGET_S, _TARGET_BATCHES * batch_s)
        if now >= self._ends_at:
            self.is_standing = self._ends_at > 0.0 and self._least_s > target_s
            self._ends_at = now + max(LEAST_INTERVAL_S, _INTERVAL_BATCHES * slow_batch_s)
            self._least_s = waited_s
        else:
            self._least_s = min(self._least_s, waited_s)
        return self.is_standing and waited_s > _LATE * target_s

    def emptied(self) -> None:
        """Nothing waits any more: the queue does not stand."""
        self.is_standing = False
        self._least_s = 0.0
