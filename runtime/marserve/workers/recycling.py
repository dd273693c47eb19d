"""Is a worker worn out, so that another should take its place? Pure.

For handlers that leak: after so many requests, or above so much memory. And for workers whose
memory has run out so often that what is left of it may be in pieces.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_JITTER = 0.1
"""The part of the requests that chance may leave out: workers of one age do not all go at once."""
_OUT_OF_MEMORY_TIMES = 3
_OUT_OF_MEMORY_WITHIN_S = 60.0
_BYTES_PER_MB = 1 << 20


@dataclass(frozen=True, slots=True)
class WearLimits:
    """When a worker is replaced; 0: it is not for that reason."""

    after_requests: int = 0
    above_mb: int = 0


NEVER_WORN = WearLimits()


class Wear:
    """What one worker has gone through. Owned by it."""

    def __init__(self, limits: WearLimits, roll: float) -> None:
        """`roll`: from 0 to 1, chance."""
        after = limits.after_requests
        self._most_requests = max(1, round(after * (1.0 - _JITTER * roll))) if after else 0
        self._most_mb = limits.above_mb
        self._requests = 0
        self._out_of_memory: deque[float] = deque(maxlen=_OUT_OF_MEMORY_TIMES)

    def served(self, requests: int) -> str | None:
        """It answered so many more; why it should go, if it should."""
        self._requests += requests
        if self._most_requests and self._requests >= self._most_requests:
            return f"it has answered {self._requests} requests (recycleAfterRequests)"
        return None

    def weighs(self, memory_bytes: int) -> str | None:
        """It takes so much memory; why it should go, if it should.

        One that has answered nothing since it loaded is not to blame: the next would be no lighter.
        """
        if self._requests and self._is_too_much(memory_bytes):
            return f"it takes {memory_bytes // _BYTES_PER_MB} MB of memory (recycleAboveMb)"
        return None

    def is_too_heavy_unused(self, memory_bytes: int) -> bool:
        """Whether it has answered nothing, and takes more than it may already."""
        return not self._requests and self._is_too_much(memory_bytes)

    def _is_too_much(self, memory_bytes: int) -> bool:
        return 0 < self._most_mb * _BYTES_PER_MB < memory_bytes

    def ran_out_of_memory(self, now: float) -> str | None:
        """Memory did not suffice for a batch; why it should go, if it should."""
        self._out_of_memory.append(now)
        times = self._out_of_memory
        if len(times) == _OUT_OF_MEMORY_TIMES and now - times[0] <= _OUT_OF_MEMORY_WITHIN_S:
            return f"its memory ran out {len(times)} times within {now - times[0]:.0f} s"
        return None
