"""How much a scenario may do: a number of trials, a time, and the seed of its random choices."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Budget:
    """Bounds of one run. A scenario asks `trials`, stops when `is_over`, reports what it made."""

    time_s: float = 60.0
    """For the trials, not counting a server's start and end; a scenario may overrun it a little."""
    n: int | None = None
    """Exactly so many trials, however long they take; None: the time decides."""
    seed: int = 1
    began_at: float = field(default_factory=time.monotonic)

    def trials(self, most: int, each_s: float) -> int:
        """How many trials to make: `n` if it is given, else what fits, at most `most`.

        Args:
            most: what a release run makes.
            each_s: how long one takes, about.
        """
        if self.n is not None:
            return self.n
        return max(1, min(most, int(self.time_s / each_s)))

    @property
    def left_s(self) -> float:
        """How much of the time is left; negative when it is over."""
        return self.began_at + self.time_s - time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether a scenario should end with the trials that it has made."""
        return self.n is None and self.left_s <= 0

    def share(self, part: float) -> Budget:
        """A budget of its own for a part of a scenario, which begins now: 0.5 is half."""
        n = None if self.n is None else max(1, round(self.n * part))
        return Budget(self.time_s * part, n, self.seed)
