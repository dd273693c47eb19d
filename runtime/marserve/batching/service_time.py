"""How long does a batch of a given cost take? Learned from those that came back. Pure.

The line `fixed + each · cost`, and by what factor a batch in twenty is slower than that. Cost is
counted in whatever the caller counts: requests, or bytes.

Durations are kept per size class and each class speaks with its median, so that neither a pause
nor the slow first batches of a model bend the line, and sizes that have not been seen for a while
are not forgotten over those that come all day. A newcomer is taken for a model of which half a
batch's time is fixed, until batches of different sizes say otherwise.
"""

from __future__ import annotations

from collections import deque
from statistics import median

_KEPT_PER_CLASS = 16
_KEPT_RATIOS = 64
_LEAST_BATCHES = 4
_REFIT_EVERY = 16
_HALF_LIFE = 512
"""Batches after which a class that did not come again counts half."""
_LEAST_WEIGHT = 0.05
"""… and what it counts at least: old knowledge is better than none."""
_PRIOR_WEIGHT = 0.25
"""What the guess about newcomers counts, where one batch counts 1."""
_FIXED_SHARE = 0.5
_QUANTILE = 0.95


class _Class:
    """The latest batches of about the same cost."""

    __slots__ = ("costs", "last", "seconds")

    def __init__(self) -> None:
        self.costs: deque[float] = deque(maxlen=_KEPT_PER_CLASS)
        self.seconds: deque[float] = deque(maxlen=_KEPT_PER_CLASS)
        self.last = 0


class ServiceTime:
    """What the batches of a version taught. Owned by its Window."""

    def __init__(self) -> None:
        self._classes: dict[int, _Class] = {}
        self._ratios: deque[float] = deque(maxlen=_KEPT_RATIOS)
        self._fixed_s = 0.0
        self._each_s = 0.0
        self._tail = 1.0
        self._fitted = 0
        self.batches = 0
        """How many were observed."""

    def observe(self, cost: float, took_s: float) -> None:
        """A batch of `cost` (> 0) came back after `took_s` seconds."""
        self.batches += 1
        key = _class_of(cost)
        found = self._classes.get(key)
        if found is None:
            found = self._classes[key] = _Class()
        found.costs.append(cost)
        found.seconds.append(took_s)
        found.last = self.batches
        expected_s = self._fixed_s + self._each_s * cost
        if expected_s > 0.0:
            self._ratios.append(took_s / expected_s)
        self._fit()

    @property
    def is_known(self) -> bool:
        """Whether enough batches were seen to say anything."""
        return self.batches >= _LEAST_BATCHES

    @property
    def fixed_s(self) -> float:
        """What a batch takes however small it is; 0 while nothing is known."""
        return self._fixed_s

    @property
    def each_s(self) -> float:
        """What each unit of cost adds; 0 while nothing is known."""
        return self._each_s

    def expected_s(self, cost: float) -> float:
        """What a batch of `cost` usually takes; 0 while nothing is known."""
        return self._fixed_s + self._each_s * cost

    def slow_s(self, cost: float) -> float:
        """What 19 of 20 batches of `cost` stay below; 0 while nothing is known."""
        return self.expected_s(cost) * self._tail

    def most_within(self, limit_s: float) -> float:
        """The largest cost that even slow batches finish within `limit_s`; may be infinite."""
        left_s = limit_s / self._tail - self._fixed_s
        if left_s < 0.0:
            return 0.0
        return left_s / self._each_s if self._each_s > 0.0 else float("inf")

    def _fit(self) -> None:
        """Draw the line anew if enough has happened since; often at first, then rarely."""
        fresh = self.batches - self._fitted
        if not self.is_known or fresh < min(_REFIT_EVERY, max(1, self.batches // 4)):
            return
        self._fitted = self.batches
        self._draw()
        if self._ratios:
            ordered = sorted(self._ratios)
            self._tail = max(1.0, ordered[min(len(ordered) - 1, int(_QUANTILE * len(ordered)))])

    def _draw(self) -> None:
        """Weighted least squares of relative errors: a class speaks for its batches."""
        points = []
        for one in self._classes.values():
            age = self.batches - one.last
            weight = len(one.costs) * max(_LEAST_WEIGHT, 0.5 ** (age / _HALF_LIFE))
            points.append((weight, sum(one.costs) / len(one.costs), max(1e-9, median(one.seconds))))
        usual_s = sum(w * s for w, _, s in points) / sum(w for w, _, _ in points)
        points.append((_PRIOR_WEIGHT, 0.0, _FIXED_SHARE * usual_s))
        w = n = d = nn = nd = 0.0
        for count, cost, seconds in points:
            weight = count / max(seconds, 0.01 * usual_s) ** 2
            w += weight
            n += weight * cost
            d += weight * seconds
            nn += weight * cost * cost
            nd += weight * cost * seconds
        spread = w * nn - n * n
        each_s = max(0.0, (w * nd - n * d) / spread) if spread > 0.0 else 0.0
        fixed_s = (d - each_s * n) / w
        if fixed_s < 0.0:  # the line crosses zero: a batch costs what its parts cost
            fixed_s, each_s = 0.0, nd / nn
        self._fixed_s, self._each_s = fixed_s, each_s


def _class_of(cost: float) -> int:
    """Four classes per doubling; below 8 every whole number is one."""
    whole = int(cost)
    if whole < 8:
        return whole
    octave = whole.bit_length()
    return 4 * octave + ((whole >> (octave - 3)) & 3)
