"""F02, F03: workers that do not go on: stopped, in an endless loop, or stuck in native code.

What they had times out, soon after the limit; what waits is served by the others meanwhile.
"""

from __future__ import annotations

import asyncio
import time

from accounting import (
    STOP,
    Allowed,
    Ask,
    Done,
    EchoServer,
    FaultDriver,
    Traffic,
    accounts,
    check,
    echo_server,
    on_loop,
    percentile,
    plan,
    say,
)
from budget import Budget
from outcome import Outcome
from standalone import standalone

RELEASE_S = 330.0
MOST = 200
PER_S = 0.8
WORKERS = 4
LIMIT_S = 1.0
LATE_S = 0.25
LATE = (504, 1004)
ASKS = (
    Ask("plain", weight=600),
    Ask("hangs", "hang", weight=1),
    Ask("holds the lock", "hang-gil", weight=1),
)
ALLOWED = {
    "plain": Allowed(statuses=(200, *LATE)),
    "hangs": Allowed(statuses=LATE),
    "holds the lock": Allowed(statuses=LATE),
}


def run(budget: Budget) -> list[Outcome]:
    """Stop `n` workers; handlers that hang by themselves come on top."""
    count = budget.trials(MOST, 1.3 / PER_S)
    with echo_server() as echo:
        echo.start(
            model={"responseTimeout": int(LIMIT_S)},
            batch_size=4,
            default_workers_per_model=WORKERS,
            job_queue_size=1000,
        )
        echo.begin()
        stops = on_loop(_load(echo, count, budget))
        verdict = check(echo.evidence(WORKERS), ALLOWED)
        rows = list(echo.ledger.rows())
    waits = [row.last_s - row.sent_s for row in rows if row.status in LATE]
    served = [row.latency_s for row in rows if row.status == 200]
    hangs = sum(row.kind != "plain" for row in rows)
    say(f"{hangs} handlers hung by themselves")
    return [
        accounts("stopped and hung workers (F02, F03)", verdict, len(stops) + hangs, "hang"),
        Outcome(
            property="stopped workers (F02): when the 504 comes",
            n=len(waits),
            bar=f"p95 ≤ {LIMIT_S + LATE_S:g} s for a limit of {LIMIT_S:g} s",
            figure=f"median {percentile(waits, 0.5):.3f} s, p95 {percentile(waits, 0.95):.3f} s",
            passed=bool(waits) and percentile(waits, 0.95) <= LIMIT_S + LATE_S,
            unit="timeout",
        ),
        Outcome(
            property="stopped workers (F02): what waits is served by the others",
            n=len(served),
            bar="p99.9 ≤ 1 s",
            figure=f"p99 {percentile(served, 0.99):.3f} s, p99.9 {percentile(served, 0.999):.3f} s",
            passed=percentile(served, 0.999) <= 1.0,
            unit="request",
        ),
    ]


async def _load(echo: EchoServer, count: int, budget: Budget) -> list[Done]:
    driver = FaultDriver(plan(budget.seed, PER_S, [STOP]), echo.pids)
    traffic = Traffic(echo, ASKS, budget.seed, clients=8, per_s=60, grpc_clients=4, pause_s=0.05)
    async with traffic:
        stopping = asyncio.create_task(driver.run(count, lambda: budget.is_over))
        while not stopping.done():
            await asyncio.wait({stopping}, timeout=5.0)
            say(f"{len(driver.done)} of {count} stops, {len(echo.ledger):,} requests")
        await stopping
        await _until_all_have_ended(driver.done)
    return driver.done


async def _until_all_have_ended(stops: list[Done]) -> None:
    """A stopped worker without a request is not missed: it gets one, which times out."""
    last_s = max((stop.at_s for stop in stops), default=0.0)
    await asyncio.sleep(max(0.0, last_s + 3 * LIMIT_S - time.monotonic()))


if __name__ == "__main__":
    standalone(run)
