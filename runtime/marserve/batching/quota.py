"""How many requests may one client send? A bucket of tokens for each. Pure."""

from __future__ import annotations

from collections import OrderedDict

MAX_CLIENTS = 10_000
"""Those that were seen longest ago are forgotten, which gives them a full bucket again."""


class Quota:
    """The buckets of all clients of one server: `per_s` tokens a second, `burst` at most."""

    def __init__(self, per_s: float, burst: float | None = None) -> None:
        self.per_s = per_s
        self._burst = max(1.0, per_s if burst is None else burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str, now: float) -> float:
        """In how many seconds the client may send a request; 0: now."""
        return max(0.0, (1.0 - self._tokens(client, now)) / self.per_s)

    def spend(self, client: str, now: float) -> None:
        """The client sent one."""
        self._buckets[client] = (self._tokens(client, now) - 1.0, now)
        self._buckets.move_to_end(client)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)

    def _tokens(self, client: str, now: float) -> float:
        tokens, since = self._buckets.get(client, (self._burst, now))
        return min(self._burst, tokens + max(0.0, now - since) * self.per_s)
