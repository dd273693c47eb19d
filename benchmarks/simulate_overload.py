"""What does dropping from a queue buy, over bounding it? A simulation.

    python benchmarks/simulate_overload.py [--seconds 30]

The server's own window (`marserve.batching.window`) with each queue discipline, one worker, batches
of 16 that take 4 ms and 1 ms per request. Clients send at random, at a multiple of what the worker
can do, or ask again at once (closed loop). Each waits so long for its answer, but does not say so,
nor does it hang up: what comes later is work for nobody. Where the wait is said (a deadline), the
server need not guess; that column refuses at the door what would come too late.

Goodput: answers in time, as a share of what the worker can do, or, where less is asked, of that.
"""

from __future__ import annotations

import argparse
import heapq
import random
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from marserve.batching.admission import expected_wait_s
from marserve.batching.window import Limits, Window

SIZE, FIXED_S, EACH_S = 16, 0.004, 0.001
CAPACITY_PER_S = SIZE / (FIXED_S + EACH_S * SIZE)
RESULTS = Path(__file__).parent / "results" / "simulate_overload.md"
DISCIPLINES = ("fifo", "codel", "adaptive_lifo", "deadlines")


@dataclass(frozen=True)
class Crowd:
    """Either `load` times the capacity at random, or `clients` that ask again at once."""

    name: str
    load: float = 0.0
    clients: int = 0
    queue_size: int = 100
    patience_s: float = 0.5


CROWDS = (
    Crowd("256 clients, closed loop, queue 1000", clients=256, queue_size=1000),
    Crowd("64 clients, closed loop", clients=64),
    Crowd("0.9 x, queue 100", load=0.9),
    Crowd("2 x, queue 100", load=2.0),
    Crowd("5 x, queue 100", load=5.0),
    Crowd("0.9 x, queue 5000", load=0.9, queue_size=5000),
    Crowd("2 x, queue 5000", load=2.0, queue_size=5000),
    Crowd("5 x, queue 5000", load=5.0, queue_size=5000),
)


@dataclass
class Outcome:
    """What became of the requests after the warm-up."""

    asked: int = 0
    in_time: int = 0
    late: int = 0
    dropped: int = 0
    refused: int = 0
    waits_s: list[float] = field(default_factory=list)

    def row(self, crowd: Crowd, discipline: str, seconds: float) -> str:
        """One line of the table."""
        possible = CAPACITY_PER_S * seconds * min(1.0, crowd.load or 1.0)
        waits = sorted(self.waits_s) or [0.0]
        p99_ms = 1000.0 * waits[int(0.99 * (len(waits) - 1))]
        shares = [n / max(1, self.asked) for n in (self.late, self.dropped, self.refused)]
        told = " | ".join(f"{share:.1%}" for share in shares)
        return (
            f"| {crowd.name} | {discipline} | {self.in_time / possible:.1%} | {told} "
            f"| {p99_ms:.0f} |"
        )


def simulate(crowd: Crowd, discipline: str, seconds: float, seed: int) -> Outcome:
    """`seconds` of it, after two of warm-up."""
    rng, numbers = random.Random(seed), count()
    sheds = discipline in ("codel", "adaptive_lifo")
    window: Window[tuple[float, int]] = Window(
        Limits(SIZE, 0.0, sheds=sheds, newest_first=discipline == "adaptive_lifo")
    )
    outcome, agenda, is_idle, warm_s = Outcome(), [], True, 2.0
    pause_s = 1.0 / (crowd.load * CAPACITY_PER_S) if crowd.load else 0.0

    def plan(when: float, what: str, about: object = None) -> None:
        heapq.heappush(agenda, (when, next(numbers), what, about))

    def ended(one: tuple[float, int], now: float, how: str) -> None:
        since, client = one
        if now > warm_s:
            outcome.asked += 1
            if how == "answered":
                how = "in_time" if now - since <= crowd.patience_s else "late"
                outcome.waits_s.append(now - since)
            setattr(outcome, how, getattr(outcome, how) + 1)
        if client >= 0:  # an error is no reason to ask again more often than an answer
            plan(now + (0.0004 if how in ("in_time", "late", "answered") else 0.1), "ask", client)

    def is_taken(now: float) -> bool:
        if len(window) >= crowd.queue_size:
            return False
        if discipline != "deadlines":
            return True
        service = window.service
        batch_s = service.expected_s(SIZE)
        slow_s = service.slow_s(SIZE)
        wait_s = expected_wait_s(len(window), SIZE, batch_s, 1, is_idle, slow_s)
        own_s = service.slow_s(min(SIZE, len(window) + 1) if wait_s else 1)
        return wait_s + own_s <= crowd.patience_s

    for client in range(crowd.clients):
        plan(rng.uniform(0.0, 0.01), "ask", client)
    if crowd.load:
        plan(rng.expovariate(1.0 / pause_s), "ask", -1)
    while agenda and agenda[0][0] < warm_s + seconds:
        now, _, what, about = heapq.heappop(agenda)
        if what == "ask":
            assert isinstance(about, int)
            if about < 0:
                plan(now + rng.expovariate(1.0 / pause_s), "ask", -1)
            if is_taken(now):
                window.add((now, about), now)
                if discipline == "deadlines":
                    window.set_deadline(next(reversed(window.line))[1], now + crowd.patience_s)
            else:
                ended((now, about), now, "refused")
        else:
            batch, took_s = about  # type: ignore[misc]
            is_idle = True
            window.answered(len(batch), took_s, now)
            for one in batch:
                ended(one, now, "answered")
        if is_idle:
            gone = window.shed(now) + (window.drop_hopeless(now) if window.has_deadlines() else [])
            for one in gone:
                ended(one, now, "dropped")
            batch = window.take(now)
            if batch:
                is_idle = False
                took_s = (FIXED_S + EACH_S * len(batch)) * rng.uniform(0.97, 1.03)
                plan(now + took_s, "answer", (batch, took_s))
    return outcome


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    seconds = parser.parse_args().seconds
    lines = [
        "| load | discipline | goodput | late | dropped | refused | p99 of answers, ms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for crowd in CROWDS:
        for discipline in DISCIPLINES:
            lines.append(simulate(crowd, discipline, seconds, 1).row(crowd, discipline, seconds))
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.write_text(
        "# Queue disciplines under overload, simulated\n\n"
        f"`python benchmarks/simulate_overload.py --seconds {seconds:g}`\n\n{text}"
    )


if __name__ == "__main__":
    main()
