"""When may a worker that died be tried again? Pure: time and chance come in as arguments.

The first replacement comes at once, then after at most 0.5, 1, 2 … up to 30 seconds: a share of
that which chance decides, so that many do not come back together. A version whose workers keep
dying, or cannot load, is tried with one worker (a probe) every 30 seconds, for ever: it never gives
up, and never burns the machine. Only deaths that nobody explains are a reason to think ill of a
version: none from outside, none for requests that took too long, and none with requests that are
then tried alone, as those are found guilty or answered. Otherwise clients could switch it off.
"""

from __future__ import annotations

from enum import Enum

from marserve.workers.causes import Cause, Ending

PROBE_EVERY_S = 30.0
_FIRST_DELAY_S = 0.5
_MAX_DELAY_S = 30.0
_WINDOW_S = 60.0
_MAX_DEATHS = 5
"""More unexplained deaths than these within the window, and no success: a crash loop."""
_MAX_FAILED_LOADS = 3


class Standing(Enum):
    """What past deaths say of a version."""

    SOUND = "sound"
    CRASH_LOOP = "crash_loop"
    LOAD_FAILED = "load_failed"


class Restarts:
    """What is remembered of the deaths of one version. Owned by its Lifecycle."""

    def __init__(self) -> None:
        self._deaths: dict[int, float] = {}
        """Unexplained ones since the last success: when, by the number of the end."""
        self._failed_loads = 0
        self.standing = Standing.SOUND
        self.suspended_at = 0.0
        self.next_probe_at = 0.0

    def died(self, ending: Ending, now: float) -> None:
        """A worker ended unasked."""
        if ending.is_self_inflicted and ending.is_of_load:
            self._failed_loads += 1
        elif ending.is_self_inflicted and not _is_explained(ending):
            self._deaths[ending.number] = now
        self._deaths = {
            number: when for number, when in self._deaths.items() if when > now - _WINDOW_S
        }
        if len(self._deaths) > _MAX_DEATHS:
            self._suspend(Standing.CRASH_LOOP, now)
        elif self._failed_loads >= _MAX_FAILED_LOADS:
            self._suspend(Standing.LOAD_FAILED, now)

    def probed(self, now: float) -> None:
        """A probe is being started."""
        self.next_probe_at = now + PROBE_EVERY_S

    def loaded(self) -> None:
        """A worker could load its model. Whether it can serve it is still to be seen."""
        self._failed_loads = 0
        if self.standing is Standing.LOAD_FAILED:
            self.standing = Standing.SOUND

    def succeeded(self) -> None:
        """A worker answered a batch, or has lived for long."""
        self._deaths.clear()
        self._failed_loads = 0
        self.standing = Standing.SOUND

    def _suspend(self, standing: Standing, now: float) -> None:
        if self.standing is Standing.SOUND:
            self.suspended_at = now
            self.next_probe_at = now + PROBE_EVERY_S
        self.standing = standing


def _is_explained(ending: Ending) -> bool:
    """Whether requests are the reason, or their trial will tell."""
    return ending.is_in_question or ending.cause is Cause.HUNG


def delay_s(failures: int, roll: float = 1.0) -> float:
    """How long to wait before the next attempt after `failures` failures in a row.

    `roll`: from 0 to 1, the share of the longest wait.
    """
    if failures <= 1:
        return 0.0
    # it never gives up, so the exponent must not grow for ever: 2.0 ** 1024 is an OverflowError
    return roll * min(_MAX_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(failures - 2, 10))
