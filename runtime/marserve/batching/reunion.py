"""Is it worth waiting a moment for the clients that were just answered? Pure.

Clients that send their next request as soon as they have an answer fall into phases: half of them
wait while the other half is served, and every batch is half empty. If a batch has a fixed cost
(a kernel launch, say), a short wait right after an answer, while they return, pays for itself.

What is learned, from the last batches: which share of those who were answered is back after g
seconds, for g on a grid. Arrivals prove nothing by themselves, as strangers arrive too; so what
arrives later in a batch's time, when whoever hurried is back, is taken for the strangers' rate and
subtracted, and the rest counts only where chance would not explain it. Requests that come at
random therefore never make anybody wait.

The rule: of those that were answered e seconds ago some have come, and the others are expected as
the shares say; when none is missing any more there is nothing to wait for. To wait until g serves
n + j requests in g + S(n + j) seconds; not to wait serves n in e + S(n), or, with the batch that
the missing ones make meanwhile, n + m in e + S(n) + S(m). Whichever serves most per second wins,
so a model without a fixed cost never waits, nor does a lone client, nor do those of whom enough
return during a batch to fill the next one.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

from marserve.batching.service_time import ServiceTime

_GRID_S = tuple(0.0002 * 1.25**slot for slot in range(26))
"""0.2 ms to 53 ms."""
_SLOTS = len(_GRID_S)
_MEMORY = 0.95
"""Weight of the past against one more batch: about the last twenty batches count."""
_SIZE_MEMORY = 0.8
"""The largest of the last few batches says how large they are now."""
_BATCHES_KEPT = (1.0 + _MEMORY) / (1.0 - _MEMORY)
"""So many batches of equal weight would teach as much."""
_MIN_BATCHES = 4
_LEAST_GAIN = 1.004
"""By what factor a wait must raise the requests per second: less may be an error of the line."""
_SURE = 3.0
"""Standard deviations by which returns must stand out of what chance would bring."""


class Reunion:
    """What the last batches taught about who comes back. Owned by one Window."""

    def __init__(self, size: int, delay_s: float, service: ServiceTime) -> None:
        self._size = size
        self._delay_s = delay_s
        self._service = service
        self._answered_at: float | None = None
        self._answered = 0
        self._arrived = 0
        self._batches = 0
        self._arrivals = [0] * (_SLOTS + 1)
        # decaying sums over batches that took at least until the grid's g: how many there were,
        # how many arrived by g, how many had been answered
        self._weight = [0.0] * _SLOTS
        self._came = [0.0] * _SLOTS
        self._asked = [0.0] * _SLOTS
        self._usual_size = 0.0
        self._late = 0.0
        self._late_s = 0.0
        self._shares: list[float] | None = None
        self._strangers_per_s = 0.0

    def arrived(self, now: float) -> None:
        """A request came."""
        if self._answered_at is not None:
            self._arrived += 1
            self._arrivals[bisect_left(_GRID_S, now - self._answered_at)] += 1

    def answered(self, size: int, now: float) -> None:
        """A batch of `size` came back."""
        if self._answered_at is not None:
            self._learn(now - self._answered_at)
        self._answered_at = now
        self._answered = size
        self._arrived = 0
        self._arrivals = [0] * (_SLOTS + 1)
        self._batches += 1

    def _learn(self, lasted_s: float) -> None:
        """The time since the last answer is over."""
        if self._horizon_s < _GRID_S[0]:
            return  # nobody is waited for, however many return
        self._shares = None
        came = list(accumulate(self._arrivals))
        until = bisect_left(_GRID_S, lasted_s)  # the grid's g beyond were not reached
        horizon = bisect_left(_GRID_S, min(self._horizon_s, 0.5 * lasted_s))
        # sums of a crowd that has left must not outweigh those who stay for long
        self._usual_size = max(float(self._answered), _SIZE_MEMORY * self._usual_size)
        most = self._usual_size / (1.0 - _MEMORY)
        for slot in range(until):
            asked = _MEMORY * self._asked[slot] + self._answered
            fade = min(1.0, most / asked)
            self._weight[slot] = _MEMORY * self._weight[slot] + 1.0
            self._came[slot] = fade * (_MEMORY * self._came[slot] + came[slot])
            self._asked[slot] = fade * asked
        if horizon < _SLOTS and lasted_s > _GRID_S[horizon]:
            self._late = _MEMORY * self._late + self._arrived - came[horizon]
            self._late_s = _MEMORY * self._late_s + lasted_s - _GRID_S[horizon]

    @property
    def _horizon_s(self) -> float:
        """Nobody is waited for longer than that."""
        return min(self._service.fixed_s, self._delay_s)

    def hold_until(self, waiting: int, now: float) -> float:
        """How long `waiting` (> 0) requests should wait for others: a moment from `now` on."""
        if self._answered_at is None or self._batches < _MIN_BATCHES:
            return now
        elapsed_s = now - self._answered_at
        horizon_s = self._horizon_s
        if elapsed_s >= horizon_s:
            return now
        missing = self._answered - max(0.0, self._arrived - self._strangers_per_s * elapsed_s)
        if missing < 0.5:
            return now
        shares = self._shares or self._returning()
        seen = _share_at(shares, elapsed_s)
        most = shares[bisect_left(_GRID_S, horizon_s) - 1] if horizon_s > _GRID_S[0] else 0.0
        if most <= seen or seen >= 1.0:
            return now
        each = missing / (1.0 - seen)
        best = now
        best_per_s = _LEAST_GAIN * self._per_s_at_once(waiting, elapsed_s, shares, seen, each)
        took_s = self._service.expected_s
        for slot in range(bisect_left(_GRID_S, elapsed_s), _SLOTS):
            g = _GRID_S[slot]
            if g > horizon_s:
                break
            size = waiting + min((shares[slot] - seen) * each, self._size - waiting)
            per_s = size / (g + took_s(size))
            if per_s > best_per_s:
                best_per_s, best = per_s, self._answered_at + g
            if shares[slot] >= most:  # longer waits bring nobody
                break
        return best

    def _per_s_at_once(
        self, waiting: int, elapsed_s: float, shares: list[float], seen: float, each: float
    ) -> float:
        """What is served per second if those that wait leave now, and the others follow."""
        took_s = self._service.expected_s
        until_s = elapsed_s + took_s(waiting)
        alone_per_s = waiting / until_s
        next_size = min(self._size, (_share_at(shares, until_s) - seen) * each)
        # less than one request is a batch that often does not happen
        next_s = took_s(next_size) * min(1.0, next_size)
        return max(alone_per_s, (waiting + next_size) / (until_s + next_s))

    def _returning(self) -> list[float]:
        """Which share of those answered is back by each g of the grid."""
        self._strangers_per_s = self._late / self._late_s if self._late_s > 0.0 else 0.0
        shares, last = [], 0.0
        for slot, g in enumerate(_GRID_S):
            weight = self._weight[slot]
            if weight < _MIN_BATCHES:
                shares.append(last)
                continue
            came = self._came[slot] / weight
            back = came - self._strangers_per_s * g
            doubt = _SURE * (came / min(weight, _BATCHES_KEPT)) ** 0.5
            if back > doubt:
                last = max(last, min(1.0, back * weight / self._asked[slot]))
            shares.append(last)
        self._shares = shares
        return shares


def _share_at(shares: list[float], elapsed_s: float) -> float:
    """The share between two points of the grid."""
    slot = bisect_left(_GRID_S, elapsed_s)
    if slot >= _SLOTS:
        return shares[-1]
    low_s, low = (_GRID_S[slot - 1], shares[slot - 1]) if slot else (0.0, 0.0)
    return low + (shares[slot] - low) * (elapsed_s - low_s) / (_GRID_S[slot] - low_s)
