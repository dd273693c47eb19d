"""Why did a worker end? Pure: decided from its wait status and what we did to it.

Whoever looks for the culprit among the requests of a dead worker asks `is_self_inflicted`: a
worker that was killed from outside says nothing about what it ran, one that crashed does.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum

UNKNOWN_STATUS = -1
"""What is said of a process whose parent ended before it could tell."""

_FROM_OUTSIDE = frozenset(
    int(number)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
)
"""What operators, terminals and machines that shut down send."""


class Cause(Enum):
    """Why a worker ended, in one word for metrics and logs."""

    REQUESTED = "requested"
    RECYCLED = "recycled"
    CRASHED = "crashed"
    KILLED = "killed"
    """By somebody else, for no reason that we know."""
    OUT_OF_MEMORY = "out_of_memory"
    HUNG = "hung"
    """It did not answer in time, so we killed it."""
    EXITED = "exited"
    PROTOCOL = "protocol"
    """It broke the rules of its channel, so we killed it."""
    LOAD_FAILED = "load_failed"
    ORPHANED = "orphaned"
    """The process that had started it ended, and it with that."""


_WANTED = frozenset({Cause.REQUESTED, Cause.RECYCLED})
_NOT_ITS_DOING = frozenset({*_WANTED, Cause.KILLED, Cause.ORPHANED})


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one life of a worker."""

    cause: Cause
    text: str
    """The same in a sentence for operators."""
    number: int = 0
    """Which of its version's ends this is, counted from 1; 0: nobody counts."""
    is_of_load: bool = False
    """The model was not loaded yet."""
    is_in_question: bool = False
    """It had requests that may be tried again: that tells whether one of them is to blame."""
    is_of_trial: bool = False
    """It was such a trial."""

    @property
    def is_expected(self) -> bool:
        """Whether we wanted it, and nothing has to be made up for."""
        return self.cause in _WANTED

    @property
    def is_self_inflicted(self) -> bool:
        """Whether what it ran may have been the reason."""
        return self.cause not in _NOT_ITS_DOING


def cause_of(status: int, killed_for: Cause | None, has_oom_evidence: bool = False) -> Cause:
    """The cause, from what `os.waitpid` said of the process.

    Args:
        status: the wait status, or UNKNOWN_STATUS.
        killed_for: why we killed it, or told it to end; None: we did not.
        has_oom_evidence: the kernel killed some process for want of memory meanwhile.
    """
    if killed_for is not None:
        return killed_for
    if status == UNKNOWN_STATUS:
        return Cause.ORPHANED
    number = signal_of(status)
    if number is None:
        return Cause.EXITED
    if number == signal.SIGKILL and has_oom_evidence:
        return Cause.OUT_OF_MEMORY
    return Cause.KILLED if number in _FROM_OUTSIDE else Cause.CRASHED


def signal_of(status: int) -> int | None:
    """The signal that ended a process; None: it exited."""
    number = status & 0x7F
    return number or None
