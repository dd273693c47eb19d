"""A worker died with a request: what becomes of the request? Pure.

Nobody is to lose an answer for it, nobody is to be executed for ever, and only a request that kills
workers when it is alone with them is to blame.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from marserve.request import Job, Request, forbids_retry

MAX_ATTEMPTS = 3
_DEATHS_ALONE = 2
"""So many a request must have been alone with; one may have been somebody's stray kill."""


@dataclass(frozen=True, slots=True)
class Loss:
    """The end of a worker that had requests."""

    cause: str
    is_self_inflicted: bool = True
    """What it ran may have been the reason; otherwise it was killed from outside."""
    number: int = 0
    """Which of its version's ends this is."""
    unsent: frozenset[int] = frozenset()
    """`id` of the jobs that never fully left for it."""


class Fate(Enum):
    """What is next for a request."""

    TOGETHER = auto()
    """It waits again as if nothing had happened."""
    ALONE = auto()
    """It waits for a worker that it shares with nobody."""
    GUILTY = auto()
    """Its sender gets an error, and it is remembered."""
    GIVEN_UP = auto()
    """Its sender gets an error."""


def fate(job: Job, loss: Loss, was_alone: bool, is_idempotent: bool) -> Fate:
    """What is next for a request that is still waited for, `job.deaths_alone` being up to date."""
    if job.has_streamed or (not may_repeat(job.request, is_idempotent)):
        return Fate.GIVEN_UP
    if was_alone and _is_guilty(job, loss):
        return Fate.GUILTY
    if job.attempts >= MAX_ATTEMPTS:
        return Fate.GIVEN_UP
    if not loss.is_self_inflicted and job.attempts <= 1:
        return Fate.TOGETHER
    return Fate.ALONE


def may_repeat(request: Request, is_idempotent: bool) -> bool:
    """Whether executing it twice does no harm, as far as model and client know."""
    return is_idempotent and not forbids_retry(request.headers)


def _is_guilty(job: Job, loss: Loss) -> bool:
    is_last = job.attempts >= MAX_ATTEMPTS
    # who kills all workers at once hits a request twice before the first death is known
    if job.deaths_alone >= _DEATHS_ALONE and (is_last or loss.is_self_inflicted):
        return True
    return loss.is_self_inflicted and (is_last or job.is_known_poison)
