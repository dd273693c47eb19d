"""F01: workers are killed under load, by SIGKILL, at any moment; nobody may lose an answer by it.

Four echo workers, batches of up to 8; an open loop, a closed loop and gRPC at the same time, with
small and large bodies, so that kills hit workers that are idle, reading, computing and writing.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from accounting import (
    KILL,
    KILL_FROZEN,
    Allowed,
    Ask,
    Done,
    EchoServer,
    FaultDriver,
    Row,
    Traffic,
    accounts,
    check,
    echo_server,
    journal,
    on_loop,
    percentile,
    plan,
    say,
)
from budget import Budget
from outcome import Outcome
from standalone import standalone

RELEASE_S = 1500.0
MOST = 10_000
PER_S = 8.0
WORKERS = 4
OPEN_PER_S = 300.0
CLIENTS = 32
ASKS = (
    Ask("plain", weight=30),
    Ask("working", "sleep 0.004", weight=60),
    Ask("large question", ballast_bytes=300_000, weight=2),
    Ask("large answer", "big 300000", weight=2),
    Ask("no retry", "sleep 0.004", may_retry=False, weight=3),
)
ALLOWED = {"no retry": Allowed(statuses=(200, 500, 503, 1013, 1014), executions=1)}
_QUIET_S = 3.0
_LONE_KILLS = 8
_APART_S = 2.5
_WINDOW_S = 0.1


def run(budget: Budget) -> list[Outcome]:
    """Kill `n` workers."""
    count = budget.trials(MOST, 1.4 / PER_S)
    lone = max(1, min(_LONE_KILLS, int(budget.time_s / 20)))
    with echo_server() as echo:
        echo.start(batch_size=8, default_workers_per_model=WORKERS, job_queue_size=1000)
        echo.begin()
        found = on_loop(_load(echo, count, lone, budget))
        say("all load has ended; checking")
        verdict = check(echo.evidence(WORKERS), ALLOWED)
        rows, runs = list(echo.ledger.rows()), echo.runs()
    kills, lone_kills, quiet = found
    all_kills = [(kill.at_s, kill.pid) for kill in (*kills, *lone_kills)]
    return [
        accounts("worker kills under load (F01)", verdict, len(all_kills), "kill"),
        _success(rows, all_kills),
        _resumed(runs, all_kills),
        _recovery(rows, lone_kills, quiet),
    ]


async def _load(
    echo: EchoServer, count: int, lone: int, budget: Budget
) -> tuple[list[Done], list[Done], tuple[float, float]]:
    """Kills in a row, lone kills, and the stretch before all of them."""
    seed = budget.seed
    traffic = Traffic(
        echo, ASKS, seed, clients=CLIENTS, per_s=OPEN_PER_S, grpc_clients=8, pause_s=0.03
    )
    async with traffic:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(1.0)
        quiet_from = loop.time()
        await asyncio.sleep(_QUIET_S)
        quiet = (quiet_from, loop.time())
        alone = FaultDriver(plan(seed, 1 / _APART_S, [KILL]), echo.pids)
        await alone.run(lone)
        await asyncio.sleep(_APART_S)
        say(f"{lone} lone kills done; now {count:,} at {PER_S:g}/s")
        driver = FaultDriver(plan(seed, PER_S, [KILL, KILL, KILL_FROZEN]), echo.pids)
        telling = asyncio.create_task(_tell(echo, driver, count))
        await driver.run(count, lambda: budget.is_over)
        telling.cancel()
    return driver.done, alone.done, quiet


async def _tell(echo: EchoServer, driver: FaultDriver, count: int) -> None:
    while True:
        await asyncio.sleep(5.0)
        done, asked = len(driver.done), len(echo.ledger)
        say(f"{done:,} of {count:,} kills, {asked:,} requests, {echo.ledger.strays_count} strays")


def _success(rows: list[Row], kills: list[tuple[float, int]]) -> Outcome:
    counted = [row for row in rows if row.kind != "no retry"]
    good = sum(row.status == 200 for row in counted)
    share = good / len(counted)
    return Outcome(
        property="worker kills under load (F01): accepted requests answered 200",
        n=len(counted),
        bar="≥ 99.99 %",
        figure=f"{share:.4%}",
        passed=share >= 0.9999,
        failures=len(counted) - good,
        unit="request",
        series=_series(rows, [at_s for at_s, _ in kills]),
    )


def _series(rows: list[Row], kills_s: list[float]) -> dict[str, list[float]]:
    """Second by second: kills, answers, and the 99th percentile of latencies in milliseconds."""
    start = min(row.planned_s for row in rows)
    seconds: dict[int, list[float]] = {}
    for row in rows:
        if row.status == 200:
            seconds.setdefault(int(row.last_s - start), []).append(row.latency_s)
    known = sorted(seconds)[:-1]  # the last one is not whole
    kills = Counter(int(at_s - start) for at_s in kills_s)
    return {
        "t_s": [float(second) for second in known],
        "kills per second": [float(kills[second]) for second in known],
        "answers per second": [float(len(seconds[second])) for second in known],
        "p99 ms": [percentile(seconds[second], 0.99) * 1000 for second in known],
    }


def _resumed(runs: list[journal.Run], kills: list[tuple[float, int]]) -> Outcome:
    waits = journal.resumed_after(runs, kills)
    middle, high = percentile(waits, 0.5) * 1000, percentile(waits, 0.99) * 1000
    return Outcome(
        property="worker kills (F01): from the kill until its requests run again",
        n=len(waits),
        bar="median ≤ 50 ms",
        figure=f"median {middle:.1f} ms, p99 {high:.1f} ms",
        passed=bool(waits) and middle <= 50,
        notes="kills that hit a worker at work; the wait for a free worker is part of it",
        unit="kill",
    )


def _recovery(rows: list[Row], kills: list[Done], quiet: tuple[float, float]) -> Outcome:
    """How long after a lone kill the 99th percentile is back within 1.2 times what it was."""
    windows: dict[int, list[float]] = {}
    for row in rows:
        if row.status == 200:
            windows.setdefault(int(row.last_s / _WINDOW_S), []).append(row.latency_s)
    usual = [
        percentile(windows.get(index, []), 0.99)
        for index in range(int(quiet[0] / _WINDOW_S) + 1, int(quiet[1] / _WINDOW_S))
    ]
    # windows of 100 ms differ by themselves: what nine of ten quiet ones keep is usual
    base = percentile(usual, 0.9)
    bound = max(1.2 * base, base + 0.005)
    times = [_back_after(windows, kill.at_s, bound) for kill in kills]
    worst = max(times, default=0.0)
    return Outcome(
        property="worker kills (F01): time until p99 is usual again",
        n=len(times),
        bar="≤ 2 s",
        figure=f"median {percentile(times, 0.5):.1f} s, most {worst:.1f} s",
        passed=bool(times) and worst <= 2.0,
        notes=f"lone kills; usual is up to {base * 1000:.1f} ms, back is {bound * 1000:.1f} ms",
        unit="kill",
    )


def _back_after(windows: dict[int, list[float]], killed_s: float, bound: float) -> float:
    """From the kill to the first two windows in a row that are usual."""
    first = int(killed_s / _WINDOW_S)
    for index in range(first, first + int(_APART_S / _WINDOW_S)):
        pair = (windows.get(index, []), windows.get(index + 1, []))
        if all(window and percentile(window, 0.99) <= bound for window in pair):
            return max(0.0, (index - first) * _WINDOW_S)
    return _APART_S


if __name__ == "__main__":
    standalone(run)
