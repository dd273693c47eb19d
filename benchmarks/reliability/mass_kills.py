"""F42: every worker of every model is killed at the same moment, again and again.

Eight models of two workers each. All come back, in time; a client waits, and is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import replace

from accounting import (
    Ask,
    ClosedLoop,
    EchoServer,
    accounts,
    check,
    cycle,
    echo_server,
    on_loop,
    percentile,
    say,
)
from budget import Budget
from outcome import Outcome
from standalone import standalone

RELEASE_S = 200.0
MOST = 50
MODELS = tuple(f"m{number}" for number in range(8))
WORKERS = 2
LOAD_S = 0.1
ASKS = (Ask("plain"), Ask("working", "sleep 0.01"))


def run(budget: Budget) -> list[Outcome]:
    """Kill all workers `n` times."""
    count = budget.trials(MOST, 4.0)
    at_once = max(1, len(os.sched_getaffinity(0)) // 2)
    bar_s = 2 * len(MODELS) * WORKERS * LOAD_S / at_once
    with echo_server(models=MODELS) as echo:
        echo.start(load_s=LOAD_S, batch_size=4, default_workers_per_model=WORKERS)
        echo.begin()
        times, never = on_loop(_load(echo, count, budget))
        # counters are of one model; these books have eight
        verdict = check(replace(echo.evidence(leaks_too=False), counted=None))
    worst = max(times, default=0.0)
    return [
        accounts(
            "all workers of all models killed at once (F42)",
            verdict,
            len(times) + never,
            "mass kill",
            also=("status",),
        ),
        Outcome(
            property="all workers killed at once (F42): until every model is ready again",
            n=len(times) + never,
            bar=f"≤ {bar_s:.1f} s",
            figure=f"median {percentile(times, 0.5):.2f} s, most {worst:.2f} s, never: {never}",
            passed=not never and worst <= bar_s,
            unit="mass kill",
            notes=f"{len(MODELS)} models of {WORKERS} workers, {LOAD_S:g} s to load each",
        ),
    ]


async def _load(echo: EchoServer, count: int, budget: Budget) -> tuple[list[float], int]:
    loops = [
        ClosedLoop(echo.ledger, echo.http, model, cycle(ASKS, budget.seed + at), pause_s=0.02)
        for at, model in enumerate(MODELS)
    ]
    await asyncio.gather(*(loop.start(3) for loop in loops))
    times, never = [], 0
    while len(times) + never < count and not budget.is_over:
        await asyncio.sleep(1.0)  # long enough for every worker to answer, which clears its name
        back_s = await _mass_kill(echo)
        if back_s is None:
            never += 1
        else:
            times.append(back_s)
        say(f"{len(times) + never} of {count} mass kills; the last took {back_s or -1:.2f} s")
    await asyncio.gather(*(loop.finish() for loop in loops))
    return times, never


async def _mass_kill(echo: EchoServer, within_s: float = 60.0) -> float | None:
    """Kill all; seconds until all models have all their workers, None: too long."""
    pids = [pid for model in MODELS for pid in await asyncio.to_thread(echo.ready_pids, model)]
    killed_s = time.monotonic()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    waiting, dead = set(MODELS), set(pids)
    while waiting and time.monotonic() < killed_s + within_s:
        for model in sorted(waiting):
            new = set(await asyncio.to_thread(echo.ready_pids, model)) - dead
            if len(new) >= WORKERS:
                waiting.discard(model)
        await asyncio.sleep(0.02)
    return None if waiting else time.monotonic() - killed_s


if __name__ == "__main__":
    standalone(run)
