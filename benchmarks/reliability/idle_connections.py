"""F24: idle connections by the thousand, beside live traffic; all are let go when the server stops.

    python benchmarks/reliability/idle_connections.py --n 10000

They come from two processes: one may not have so many descriptors. The server raises its own limit.
"""

from __future__ import annotations

import asyncio
import time

import psutil
from accounting import EchoServer, echo_server, on_loop
from beside import Attackers, beside
from budget import Budget
from outcome import Outcome
from standalone import standalone

MOST = 10_000
PER_S = 300.0
_LOAD_S = 10.0
_MOST_KIB = 32.0
_STOP_S = 5.0


def run(budget: Budget) -> list[Outcome]:
    """Hold `n` connections."""
    count = budget.trials(MOST, 0.004)
    figures: dict[str, float] = {}
    with echo_server(has_journal=False) as echo:
        echo.start(batch_size=8, default_workers_per_model=2)
        memory = psutil.Process(echo.pid).memory_info

        async def all_of_it() -> Outcome:
            shares = (count // 2, count - count // 2)
            held: list[Attackers] = []

            async def come() -> None:
                before = memory().rss
                held.extend([await Attackers.start("idle", echo.http, share) for share in shares])
                ready = [await one.told(60.0) for one in held]
                figures["ready"] = sum(one.get("ready", 0) for one in ready)
                await asyncio.sleep(1.0)
                figures["kib_each"] = (memory().rss - before) / 1024 / count

            try:
                others = await beside(echo, PER_S, 5.0, lambda: asyncio.sleep(_LOAD_S), come)
                began = time.monotonic()
                stopped = asyncio.to_thread(_stop, echo)
                closed = asyncio.gather(*(one.told(30.0) for one in held))
                told, _ = await asyncio.gather(closed, stopped)
                figures["closed"] = sum(one.get("closed", 0) for one in told)
                figures["stop_s"] = time.monotonic() - began
            finally:
                for one in held:
                    await one.end()
            return others.outcome("idle connections (F24)")

        live = on_loop(all_of_it())
    return [
        live,
        Outcome(
            property="idle connections (F24): memory of each",
            n=int(figures["ready"]),
            bar=f"≤ {_MOST_KIB:g} KiB",
            figure=f"{figures['kib_each']:.1f} KiB",
            passed=figures["ready"] == count and figures["kib_each"] <= _MOST_KIB,
            unit="connection",
        ),
        Outcome(
            property="idle connections (F24): all closed when the server stops",
            n=count,
            bar=f"≤ {_STOP_S:g} s",
            figure=f"{figures['closed']:.0f} within {figures['stop_s']:.1f} s",
            passed=figures["closed"] == count and figures["stop_s"] <= _STOP_S,
            unit="connection",
        ),
    ]


def _stop(echo: EchoServer) -> None:
    echo.server.stop()


if __name__ == "__main__":
    standalone(run)
