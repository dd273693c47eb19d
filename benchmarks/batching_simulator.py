"""A discrete-event simulation of workers that are given batches, for `simulate_batching.py`.

Workers run side by side, a batch of n takes `fixed_s + each_s · n`, give or take 3 %. Requests come
as a Poisson process (open loop) or from clients that send again a while after each answer (closed
loop). Nothing else takes time: what differs between two runs is how batches are formed.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from batching_peers import Item, Policy

NOISE = 0.03
SIZE = 32
DELAY_S = 0.010
_ARRIVAL, _ANSWER, _LOOK = 0, 1, 2

Think = Callable[[random.Random], float]
"""Draws how many seconds a client takes from an answer to its next request."""


def at_once(rng: random.Random) -> float:
    """About 0.4 ms, which is what a loopback client takes."""
    return rng.uniform(0.0002, 0.0006)


@dataclass(frozen=True)
class Curve:
    """A batch of n takes `fixed_s + each_s · n` seconds."""

    name: str
    fixed_s: float
    each_s: float

    def per_s(self, size: int) -> float:
        """Requests per second of one worker in batches of `size`."""
        return size / (self.fixed_s + self.each_s * size)


@dataclass(frozen=True)
class Load:
    """Either so many `clients`, or `per_s` requests a second from nobody in particular."""

    clients: int = 0
    think: Think = at_once
    per_s: float = 0.0


@dataclass
class Outcome:
    """What was measured after the warm-up."""

    waits_s: list[float] = field(default_factory=list)
    """From arrival to answer, of each request."""
    sizes: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def per_s(self) -> float:
        """Answers per second."""
        return len(self.waits_s) / self.seconds

    @property
    def mean_ms(self) -> float:
        """Mean time from arrival to answer."""
        return 1000.0 * sum(self.waits_s) / max(1, len(self.waits_s))

    @property
    def p99_ms(self) -> float:
        """… of all but the slowest hundredth."""
        ordered = sorted(self.waits_s)
        return 1000.0 * ordered[int(0.99 * (len(ordered) - 1))]


def simulate(
    policy: Policy,
    curve: Curve,
    load: Load,
    seed: int,
    requests: int,
    workers: int = 1,
) -> Outcome:
    """Run until `requests` answers were counted, after a warm-up of a fifth as many."""
    # arrivals and service times are drawn from streams of their own, so that every policy meets
    # the same arrivals
    arrivals, services = random.Random(f"a{seed}"), random.Random(f"s{seed}")
    agenda: list[tuple[float, int, int, object]] = []
    numbers = count()
    idle, now, look_at = workers, 0.0, -1.0
    outcome, warm_up, done = Outcome(), requests // 5, 0
    began = 0.0

    def plan(when: float, what: int, about: object) -> None:
        heapq.heappush(agenda, (when, next(numbers), what, about))

    for client in range(load.clients):
        plan(arrivals.uniform(0.0, 0.002), _ARRIVAL, client)
    if not load.clients:
        plan(arrivals.expovariate(load.per_s), _ARRIVAL, -1)
    while done < warm_up + requests:
        now, _, what, about = heapq.heappop(agenda)
        if what == _ARRIVAL:
            assert isinstance(about, int)
            policy.add((now, about), now)
            if about < 0:
                plan(now + arrivals.expovariate(load.per_s), _ARRIVAL, -1)
        elif what == _ANSWER:
            batch, took_s = about  # type: ignore[misc]
            idle += 1
            policy.answered(len(batch), took_s, now)
            for since, client in batch:
                done += 1
                if done == warm_up:
                    began = now
                elif done > warm_up:
                    outcome.waits_s.append(now - since)
                if client >= 0:
                    plan(now + load.think(arrivals), _ARRIVAL, client)
            if done > warm_up:
                outcome.sizes.append(len(batch))
        elif now != look_at:
            continue  # planned for a batch that has left
        look_at = -1.0
        while idle:
            due = policy.due_at(now, idle)
            if due is None:
                break
            if due > now:
                look_at = due
                plan(due, _LOOK, None)
                break
            taken: list[Item] = policy.take(now)
            idle -= 1
            noise = services.uniform(1.0 - NOISE, 1.0 + NOISE)
            took_s = (curve.fixed_s + curve.each_s * len(taken)) * noise
            plan(now + took_s, _ANSWER, (taken, took_s))
    outcome.seconds = now - began
    return outcome
