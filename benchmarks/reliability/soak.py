"""LEAK: a million requests, good ones and abuse, and what the server holds more afterwards.

Memory is looked at in the second half alone: the first fills caches. Its slope is the trend of all
samples, in bytes for a million requests.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from accounting import (
    Allowed,
    Ask,
    EchoServer,
    Traffic,
    accounts,
    check,
    echo_server,
    on_loop,
    say,
)
from budget import Budget
from chaos.leaks import Holdings
from outcome import Outcome
from standalone import standalone

RELEASE_S = 900.0
MOST = 1_000_000
MIB = 1 << 20
WORKERS = 2
SAMPLES = 60
ASKS = (
    Ask("plain", weight=900),
    Ask("large question", ballast_bytes=50_000, weight=5),
    Ask("large answer", "big 50000", weight=5),
    Ask("raises", "raise no", weight=10),
    Ask("wrong result", "returns []", weight=5),
)
ALLOWED = {
    "plain": Allowed(statuses=(200, 503, 1014)),
    "large question": Allowed(statuses=(200, 503, 1014)),
    "large answer": Allowed(statuses=(200, 503, 1014)),
    "raises": Allowed(statuses=(503, 1014)),
    "wrong result": Allowed(statuses=(503, 1014)),
}
"""Who shares a batch with a wrong result has none either."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was held when so many requests had been made."""

    requests: int
    held: Holdings


def run(budget: Budget) -> list[Outcome]:
    """Send `n` requests."""
    count = budget.trials(MOST, 1 / 6000)
    with echo_server(has_journal=False) as echo:
        echo.start(batch_size=16, default_workers_per_model=WORKERS, job_queue_size=1000)
        echo.begin()
        samples = on_loop(_load(echo, count, budget))
        verdict = check(echo.evidence(WORKERS), ALLOWED)
        made = len(echo.ledger)
    half = samples[len(samples) // 2 :]
    return [
        accounts("soak with abuse (LEAK)", verdict, made, "request", also=("status",)),
        _memory("the server's", [(s.requests, s.held.rss_bytes) for s in half], made, samples),
        _memory("the workers'", [(s.requests, s.held.workers_rss_bytes) for s in half], made, None),
        _flat(samples, made),
    ]


async def _load(echo: EchoServer, count: int, budget: Budget) -> list[Sample]:
    samples: list[Sample] = []
    step = max(1, count // SAMPLES)
    traffic = Traffic(echo, ASKS, budget.seed, clients=24, per_s=5, grpc_clients=2, pause_s=0.0)
    async with traffic:
        while len(echo.ledger) < count and not budget.is_over:
            await asyncio.sleep(0.05)
            if len(echo.ledger) >= step * (len(samples) + 1):
                held = await asyncio.to_thread(echo.holdings)
                samples.append(Sample(len(echo.ledger), held))
                if len(samples) % 6 == 0:
                    say(
                        f"{len(echo.ledger):,} of {count:,} requests, server "
                        f"{held.rss_bytes / MIB:.1f} MiB, workers and zygote "
                        f"{held.workers_rss_bytes / MIB:.1f} MiB"
                    )
    return samples


def _memory(
    whose: str, points: list[tuple[int, int]], made: int, samples: list[Sample] | None
) -> Outcome:
    """Growth in the second half, by the trend: a single sample may be anywhere."""
    per_request, at_start = _trend(points)
    grown = per_request * (points[-1][0] - points[0][0]) if len(points) > 1 else 0.0
    share = grown / max(1.0, at_start)
    series = None
    if samples:
        series = {
            "thousand requests": [sample.requests / 1000 for sample in samples],
            "memory of the server, MiB": [s.held.rss_bytes / MIB for s in samples],
        }
    return Outcome(
        property=f"soak (LEAK): {whose} memory in the second half",
        n=made,
        bar="< 1 % and < 5 MiB",
        figure=f"{share:+.2%}, {grown / MIB:+.2f} MiB",
        passed=share < 0.01 and grown < 5 * MIB,
        notes=f"{per_request * 1e6 / MIB:+.2f} MiB per million requests, of {at_start / MIB:.0f}",
        unit="request",
        series=series,
    )


def _trend(points: list[tuple[int, int]]) -> tuple[float, float]:
    """Least squares: slope, and the value where the points begin."""
    if len(points) < 2:
        return 0.0, float(points[0][1]) if points else 0.0
    xs, ys = [float(x) for x, _ in points], [float(y) for _, y in points]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    return slope, mean_y - slope * (mean_x - xs[0])


def _flat(samples: list[Sample], made: int) -> Outcome:
    """Descriptors and threads under the same load are as many at the end as in the middle."""
    middle, end = samples[len(samples) // 2].held, samples[-1].held
    found = {
        "descriptors": sum(end.descriptors.values()) - sum(middle.descriptors.values()),
        "threads": end.threads - middle.threads,
        "processes": end.processes - middle.processes,
        "shared memory": len(end.shared_memory - middle.shared_memory),
        "temporary files": end.temporary - middle.temporary,
    }
    # a connection or two of the open loop come and go
    slack = {"descriptors": 4}
    bad = [name for name, more in found.items() if more > slack.get(name, 0)]
    return Outcome(
        property="soak (LEAK): descriptors, threads, processes, shared memory, files",
        n=made,
        bar="flat",
        figure=", ".join(f"{name} {more:+d}" for name, more in found.items()),
        passed=not bad,
        unit="request",
    )


if __name__ == "__main__":
    standalone(run)
