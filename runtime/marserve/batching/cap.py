"""How many requests may go together now? Pure.

A version starts at its batch size: nothing is ramped up. When a batch runs out of memory the cap
falls to half of what failed. From there it climbs by one after every few batches that were full
while more waited, up to just below what failed; that itself is tried again only after very many,
as the memory may have been somebody else's. It does not climb where larger batches serve no more
requests per second.
"""

from __future__ import annotations

from marserve.batching.service_time import ServiceTime

_FULL_BEFORE_STEP = 8
_FULL_BEFORE_RETRY = 2048
_LEAST_GAIN = 0.005
"""By what share one more request must raise the requests per second."""


class Cap:
    """The cap of one version. Owned by its Window."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._failed_at: int | None = None
        self._full = 0
        self.limit = size
        """The most requests of a batch, 1 to the batch size."""

    def ran_out(self, size: int) -> None:
        """A batch of `size` needed more memory than there was."""
        self._failed_at = max(2, size)
        self.limit = max(1, min(self.limit, size // 2))
        self._full = 0

    def went_well(self, size: int, is_backlogged: bool, service: ServiceTime) -> None:
        """A batch of `size` came back; `is_backlogged`: others wait that could have come along."""
        if self._failed_at is None or size < self.limit or not is_backlogged:
            return
        self._full += 1
        if self.limit + 1 >= self._failed_at:
            if self._full >= _FULL_BEFORE_RETRY:
                self._failed_at = self._failed_at + 1 if self._failed_at < self._size else None
                self._full = 0
        elif self._full >= _FULL_BEFORE_STEP and _pays(self.limit, service):
            self.limit += 1
            self._full = 0
        if self._failed_at is None:
            self.limit = self._size


def _pays(size: int, service: ServiceTime) -> bool:
    """Whether one more than `size` would be served at a higher rate."""
    now_s, then_s = service.expected_s(size), service.expected_s(size + 1)
    if now_s <= 0.0 or then_s <= 0.0:
        return True
    return (size + 1) / then_s > (1.0 + _LEAST_GAIN) * size / now_s
