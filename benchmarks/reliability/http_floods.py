"""SEC-14: 100 requests of 1,000,000 chunks; the server's memory must not grow by a mebibyte.

python benchmarks/reliability/http_floods.py --n 100
"""

from __future__ import annotations

from typing import Any

import psutil
from accounting import EchoServer, echo_server, on_loop, say
from beside import Attackers
from budget import Budget
from outcome import Outcome
from standalone import standalone

MOST = 100
CHUNKS = 1_000_000
_WARM = 5
_MOST_GROWTH_KIB = 1024


def run(budget: Budget) -> list[Outcome]:
    """Flood with `n` requests."""
    count = budget.trials(MOST, 0.2)
    with echo_server(has_journal=False) as echo:
        echo.start(batch_size=8, default_workers_per_model=1)
        on_loop(_flood(echo, _WARM))
        memory = psutil.Process(echo.pid).memory_info
        before_kib = memory().rss // 1024
        told = on_loop(_flood(echo, count))
        grown_kib = memory().rss // 1024 - before_kib
    statuses = told.get("statuses", {})
    say(f"answers: {statuses}")
    return [
        Outcome(
            property=f"floods of {CHUNKS:,} chunks (SEC-14): memory",
            n=count,
            bar="< 1 MiB more",
            figure=f"{grown_kib} KiB more",
            passed=grown_kib < _MOST_GROWTH_KIB,
            unit="request",
        ),
        Outcome(
            property=f"floods of {CHUNKS:,} chunks (SEC-14): refused with 400",
            n=count,
            bar="all",
            figure=f"{statuses.get('400', 0)} of {count}",
            passed=statuses.get("400", 0) == count,
            failures=count - statuses.get("400", 0),
            unit="request",
        ),
    ]


async def _flood(echo: EchoServer, count: int) -> dict[str, Any]:
    attackers = await Attackers.start("chunks", echo.http, count, CHUNKS)
    try:
        return await attackers.told(120.0)
    finally:
        await attackers.end()


if __name__ == "__main__":
    standalone(run)
