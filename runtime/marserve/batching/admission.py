"""Is this request taken, or refused at once? Pure."""

from __future__ import annotations

import math
from enum import Enum
from typing import Final, NamedTuple

_RETRY_AFTER_LIMITS_S = (1, 30)
_SPREAD_S = 5
"""Refused clients come back over so many seconds, not all at once."""
_MARGIN = 1.1
"""By so much waits are reckoned longer. Without it everybody is served at the last moment, batches
are cut short for the tightest of their members, and a tenth of what the model can do is lost."""


class Refusal(Enum):
    """Why a request is not taken; the value is the word that clients and metrics get."""

    QUEUE_FULL = "queue_full"
    QUEUE_BYTES = "queue_bytes"
    NO_WORKERS = "no_workers"
    NO_TICKET = "no_ticket"
    DEADLINE_UNREACHABLE = "deadline_unreachable"
    MEMORY = "memory"
    QUOTA = "quota"
    CLOSING = "closing"


GIVES_WAY: Final = frozenset(
    {Refusal.QUEUE_FULL, Refusal.QUEUE_BYTES, Refusal.DEADLINE_UNREACHABLE}
)
"""A request that is refused for one of these may be taken in the place of another that waits."""


class Load(NamedTuple):
    """What a version has to do, and with what, as a request comes."""

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
    left_s: float = math.inf
    """The time that the client gives the request."""
    wait_s: float = 0.0
    """After so long a worker should take the request; 0 while nothing is known."""
    least_s: float = 0.0
    """What the model takes for the batch that the request would be in; 0 while nothing is known."""
    is_memory_low: bool = False
    quota_wait_s: float = 0.0
    """In so long the client may send its next request; 0: now."""
    retry_after_s: float | None = None
    """In so long a worker is tried again, where none serves and they keep failing; else None."""
    is_crash_looping: bool = False
    """Workers keep failing, so that another one is tried only now and then."""


def refusal(load: Load) -> Refusal | None:
    """Why the next request is refused, or None when it is taken."""
    if load.is_closing:
        return Refusal.CLOSING
    is_waiting_in_vain = load.is_crash_looping and load.retry_after_s is not None
    if load.workers_wanted == 0 or load.is_hopeless or is_waiting_in_vain:
        return Refusal.NO_WORKERS
    if load.is_memory_low:
        return Refusal.MEMORY
    if load.quota_wait_s > 0.0:
        return Refusal.QUOTA
    if load.depth >= load.depth_limit:
        return Refusal.QUEUE_FULL
    if load.waiting_bytes >= load.waiting_bytes_limit:
        return Refusal.QUEUE_BYTES
    if load.tickets is not None and load.tickets <= 0:
        return Refusal.NO_TICKET
    if load.left_s <= 0.0 or load.wait_s + load.least_s > load.left_s:
        return Refusal.DEADLINE_UNREACHABLE
    return None


def expected_wait_s(
    ahead: int,
    batch_size: int,
    batch_s: float,
    workers: int,
    is_idle: bool,
    slow_batch_s: float = 0.0,
) -> float:
    """After how long a worker should take a request that `ahead` others are before.

    `batch_s`: what a full batch of `batch_size` takes; `slow_batch_s`: what it may well take. The
    wait is for the batches before that of the request, and for what the workers do now, unless one
    `is_idle`: that is reckoned as one more batch, a slow one, because it may have begun just now.
    0 while nothing is known.
    """
    if batch_s <= 0.0 or workers <= 0:
        return 0.0
    usual_s = _MARGIN * batch_s
    running_s = 0.0 if is_idle else max(usual_s, slow_batch_s)
    return (ahead // batch_size * usual_s + running_s) / workers


def retry_after_s(depth: int, answered_per_s: float, roll: float) -> int:
    """In how many whole seconds a client should come back to a queue of `depth`.

    Not before it should have drained, and at a moment that `roll` (0 to 1) chooses, or all that
    were refused together would come back together.
    """
    low, high = _RETRY_AFTER_LIMITS_S
    drained_s = depth / answered_per_s if answered_per_s > 0.0 else 0.0
    first = math.ceil(min(high, max(low, drained_s)))
    last = min(high, max(_SPREAD_S, first + first // 4))
    return first + min(last - first, int(roll * (last - first + 1)))
