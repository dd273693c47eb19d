"""Is this request taken, or refused at once? Pure."""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import NamedTuple

_RETRY_AFTER_LIMITS_S = (1, 30)


class Refusal(Enum):
    """Why a request is not taken."""

    QUEUE_FULL = auto()
    NO_WORKERS = auto()
    NO_TICKET = auto()
    CLOSING = auto()


class Load(NamedTuple):
    """What a version has to do, and with what. Made for every request, so it is a plain tuple."""

    depth: int
    depth_limit: int
    waiting_bytes: int
    waiting_bytes_limit: int
    workers_wanted: int
    is_hopeless: bool
    """No worker serves, and the last ones could not load."""
    is_closing: bool
    tickets: int | None = None
    """Workers that wait for work; None: whether any does is not asked."""


def refusal(load: Load) -> Refusal | None:
    """Why the next request is refused, or None when it is taken."""
    if load.is_closing:
        return Refusal.CLOSING
    if load.workers_wanted == 0 or load.is_hopeless:
        return Refusal.NO_WORKERS
    if load.depth >= load.depth_limit or load.waiting_bytes >= load.waiting_bytes_limit:
        return Refusal.QUEUE_FULL
    if load.tickets is not None and load.tickets <= 0:
        return Refusal.NO_TICKET
    return None


def retry_after_s(depth: int, answered_per_s: float) -> int:
    """In how many whole seconds a queue of `depth` should have drained."""
    low, high = _RETRY_AFTER_LIMITS_S
    if answered_per_s <= 0.0:
        return low
    return math.ceil(min(high, max(low, depth / answered_per_s)))
