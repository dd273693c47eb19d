"""What was measured at one number of connections. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field

from marserve.bench.account import Account, Spent, spent
from marserve.bench.tally import Failure, Tally

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Server:
    """What the server said about the same stretch."""

    answers: float
    """Of the model, to anybody."""
    batch_size: float
    """Mean requests per batch."""
    cpu_share: float
    """CPU time of its process by wall time: 1 is a whole core. Workers are left out."""
    spent: Spent | None


@dataclass(frozen=True, slots=True)
class Point:
    """One row of the table. Latencies are of successes, in seconds."""

    connections: int
    rate: float | None
    """Requests planned per second; None: each connection sends when it is answered."""
    window_s: float
    succeeded: int
    latency_s: dict[str, float]
    """mean, p50, p90, p99, max"""
    failures: tuple[Failure, ...]
    generator_share: float
    """CPU time of the load generator by wall time."""
    server: Server | None = None
    is_cut: bool = field(default=False)
    """Ended by the user before its time."""

    @property
    def per_s(self) -> float:
        """Successes per second."""
        return self.succeeded / self.window_s if self.window_s else 0.0

    @property
    def failed(self) -> int:
        """Requests that brought no success."""
        return sum(failure.count for failure in self.failures)


@dataclass(frozen=True, slots=True)
class Window:
    """A measured stretch before it is summed up."""

    tally: Tally
    wall_s: float
    cpu_s: float
    """Of the generator's process."""
    is_cut: bool = False


def point(
    connections: int, rate: float | None, window: Window, accounted: tuple[Account, float] | None
) -> Point:
    """The sum of a window and of what the server told, over how many seconds."""
    tally, latencies = window.tally, window.tally.latencies
    figures = {name: latencies.quantile(share) for name, share in QUANTILES.items()}
    return Point(
        connections=connections,
        rate=rate,
        window_s=window.wall_s,
        succeeded=latencies.count,
        latency_s={"mean": latencies.mean_s, **figures, "max": latencies.max_s},
        failures=tuple(sorted(tally.failures.values(), key=lambda one: -one.count)),
        generator_share=window.cpu_s / window.wall_s if window.wall_s else 0.0,
        server=None if accounted is None else _server(*accounted, tally, is_planned=bool(rate)),
        is_cut=window.is_cut,
    )


def _server(between: Account, wall_s: float, tally: Tally, *, is_planned: bool) -> Server:
    answers = tally.answers or 1
    # without a plan, nobody is held back but for the time between two readings of the clock
    held_back_s = tally.held_back_s / answers if is_planned else 0.0
    return Server(
        answers=between.answers,
        batch_size=between.batch_size,
        cpu_share=between.cpu_s / wall_s if wall_s else 0.0,
        spent=spent(between, tally.answers_s / answers, held_back_s) if tally.answers else None,
    )
