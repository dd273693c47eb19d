"""Who can still be answered in time, and how many may go together for that. Pure.

What a batch takes is known from those before (`service_time.py`), with a margin: nineteen of
twenty are faster. While nothing is known yet everybody may try.
"""

from __future__ import annotations

from collections.abc import Sequence

from marserve.batching.service_time import ServiceTime

_WORTH_KEEPING = 0.5
"""A batch is made smaller for one request by no more than this share of its size."""


def hopeless(slack_s: float, service: ServiceTime) -> bool:
    """Whether a request with `slack_s` seconds left would come too late even alone."""
    return slack_s <= 0.0 or service.slow_s(1) > slack_s


def members(slack_s: Sequence[float], service: ServiceTime) -> set[int]:
    """Which of the first requests of a queue make the next batch, by index.

    `slack_s`: the seconds that each has left, `inf` for those without a deadline. As long as the
    tightest would be late the batch is shortened from its end; if that would cost it more than
    half of its size, the tightest is left out instead, to go in a smaller batch if a worker is
    free for one. At least one request is chosen, unless there is none.
    """
    chosen = list(range(len(slack_s)))
    while len(chosen) > 1:
        tightest = min(chosen, key=lambda index: slack_s[index])
        if service.slow_s(len(chosen)) <= slack_s[tightest]:
            break
        allowed = int(service.most_within(slack_s[tightest]))
        if allowed < max(1.0, _WORTH_KEEPING * len(chosen)):
            chosen.remove(tightest)
        else:
            del chosen[min(allowed, len(chosen) - 1) :]
    return set(chosen)
