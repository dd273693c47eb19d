"""Small models of how other servers form batches, for `simulate_batching.py`.

Each keeps to what its server's source does with an ideal event loop: no cost of polling, no cost
of passing a batch on. That flatters those that poll.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

Item = tuple[float, int]
"""When it arrived, and the client that sent it (-1: one of an open loop)."""


class Policy(Protocol):
    """Decides which requests leave together, and when. Time comes in as an argument, in seconds."""

    def add(self, item: Item, now: float) -> None:
        """A request arrived."""

    def due_at(self, now: float, idle: int) -> float | None:
        """When the next batch leaves, `idle` (> 0) workers being free: `now`, later, or None."""
        ...

    def take(self, now: float) -> list[Item]:
        """The batch that is due."""
        ...

    def answered(self, size: int, took_s: float, now: float) -> None:
        """A batch came back."""


class Greedy:
    """Whatever waits leaves as soon as a worker is free (Triton and LitServe without a delay)."""

    def __init__(self, size: int, delay_s: float, workers: int) -> None:
        self.size = size
        self.delay_s = delay_s
        self.waiting: deque[Item] = deque()

    def add(self, item: Item, now: float) -> None:
        """See `Policy`."""
        self.waiting.append(item)

    def due_at(self, now: float, idle: int) -> float | None:
        """See `Policy`."""
        return now if self.waiting else None

    def take(self, now: float) -> list[Item]:
        """See `Policy`."""
        count = min(self.size, len(self.waiting))
        return [self.waiting.popleft() for _ in range(count)]

    def answered(self, size: int, took_s: float, now: float) -> None:
        """See `Policy`."""


class WindowIdle(Greedy):
    """The delay begins when a free worker takes its first request (TorchServe, mosec, LitServe).

    One worker at a time forms a batch, as TorchServe's lock has it.
    """

    def __init__(self, size: int, delay_s: float, workers: int) -> None:
        super().__init__(size, delay_s, workers)
        self._since: float | None = None

    def due_at(self, now: float, idle: int) -> float | None:
        """See `Policy`."""
        if not self.waiting:
            return None
        if self._since is None:
            self._since = now
        if len(self.waiting) >= self.size:
            return now
        return max(now, self._since + self.delay_s)

    def take(self, now: float) -> list[Item]:
        """See `Policy`."""
        self._since = None
        return super().take(now)


class WindowOldest(Greedy):
    """The delay begins when the oldest request arrives (Triton with a delay)."""

    def due_at(self, now: float, idle: int) -> float | None:
        """See `Policy`."""
        if not self.waiting:
            return None
        if len(self.waiting) >= self.size:
            return now
        return max(now, self.waiting[0][0] + self.delay_s)


class Frozen(Greedy):
    """Batches are formed whether or not a worker is free, and then wait (Ray Serve, MLServer)."""

    def _first(self) -> tuple[int, float]:
        """How many make the first batch, and when it is complete."""
        closes = self.waiting[0][0] + self.delay_s
        count = 0
        for arrived, _ in self.waiting:
            if arrived > closes:
                return count, closes
            count += 1
            if count == self.size:
                return count, arrived
        return count, closes

    def due_at(self, now: float, idle: int) -> float | None:
        """See `Policy`."""
        return max(now, self._first()[1]) if self.waiting else None

    def take(self, now: float) -> list[Item]:
        """See `Policy`."""
        return [self.waiting.popleft() for _ in range(self._first()[0])]


class Cork(Greedy):
    """BentoML's dispatcher: waits while each waiting request's share of the wait is small."""

    TICK_S = 0.001
    KEPT = 50
    REFRESH_S = 5.0

    def __init__(self, size: int, delay_s: float, workers: int) -> None:
        super().__init__(size, delay_s, workers)
        self._slope_s = 2.0
        self._usual_wait_s = 0.0
        self._samples: deque[tuple[int, float, float]] = deque(maxlen=self.KEPT)
        self._waits: deque[float] = deque()
        self._seen = 0
        self._fitted_at = -self.REFRESH_S

    def due_at(self, now: float, idle: int) -> float | None:
        """See `Policy`."""
        n = len(self.waiting)
        if n == 0:
            return None
        newest_s = now - self.waiting[-1][0]
        if n < self.size and n * (newest_s + self.TICK_S + self._slope_s) <= 0.95 * (
            self._usual_wait_s
        ):
            return now + self.TICK_S
        return now

    def take(self, now: float) -> list[Item]:
        """See `Policy`."""
        self._waits.append(now - self.waiting[0][0])
        return super().take(now)

    def answered(self, size: int, took_s: float, now: float) -> None:
        """See `Policy`."""
        self._seen += 1
        wait_s = self._waits.popleft()
        if self._seen > 2:
            self._samples.append((size, took_s, wait_s))
        if len(self._samples) < 5 or now - self._fitted_at < self.REFRESH_S:
            return
        self._fitted_at = now
        count = len(self._samples)
        mean_n = sum(n for n, _, _ in self._samples) / count
        mean_s = sum(s for _, s, _ in self._samples) / count
        spread = sum((n - mean_n) ** 2 for n, _, _ in self._samples)
        if spread > 0.0:
            joint = sum((n - mean_n) * (s - mean_s) for n, s, _ in self._samples)
            self._slope_s = max(1e-6, joint / spread)
        else:  # least squares of least norm: all of it is a slope
            self._slope_s = mean_s / mean_n
        self._usual_wait_s = sum(w for _, _, w in self._samples) / count


class FirstReunion(Greedy):
    """The rule that this server began with: wait up to g if the arrivals usual until g pay."""

    GRID_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)

    def __init__(self, size: int, delay_s: float, workers: int) -> None:
        super().__init__(size, delay_s, workers)
        self._answered_at: float | None = None
        self._counts = [0] * len(self.GRID_S)
        self._usual = [0.0] * len(self.GRID_S)
        self._sums = [0.0] * 5
        self._batches = 0

    def add(self, item: Item, now: float) -> None:
        """See `Policy`."""
        super().add(item, now)
        if self._answered_at is not None:
            for slot, g in enumerate(self.GRID_S):
                if now - self._answered_at <= g:
                    self._counts[slot] += 1

    def answered(self, size: int, took_s: float, now: float) -> None:
        """See `Policy`."""
        if self._answered_at is not None:
            for slot, count in enumerate(self._counts):
                self._usual[slot] += 0.05 * (count - self._usual[slot])
            self._counts = [0] * len(self.GRID_S)
        new = (1.0, size, took_s, size * size, size * took_s)
        self._sums = [0.95 * old + one for old, one in zip(self._sums, new, strict=True)]
        self._answered_at = now
        self._batches += 1

    def due_at(self, now: float, idle: int) -> float | None:
        """See `Policy`."""
        n = len(self.waiting)
        if n == 0 or n >= self.size or self._answered_at is None:
            return now if n else None
        weight, sn, sd, snn, snd = self._sums
        spread = weight * snn - sn * sn
        cost_s = 0.0
        if self._batches >= 8 and spread > 1e-6 * weight * weight:
            slope = max(0.0, (weight * snd - sn * sd) / spread)
            cost_s = max(0.0, (sd - slope * sn) / weight)
        elapsed_s = now - self._answered_at
        seen = max(
            (u for u, g in zip(self._usual, self.GRID_S, strict=True) if g < elapsed_s), default=0.0
        )
        best_gain, best = 0.0, now
        for usual, g in zip(self._usual, self.GRID_S, strict=True):
            if elapsed_s < g <= min(cost_s, self.delay_s):
                gain = min(usual - seen, self.size - n) * cost_s - n * (g - elapsed_s)
                if gain > best_gain:
                    best_gain, best = gain, self._answered_at + g
        return max(now, min(best, self.waiting[0][0] + self.delay_s))
