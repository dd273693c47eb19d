"""F08: workers crash by SIGSEGV, SIGABRT, SIGBUS and SIGILL under load; nobody may notice."""

from __future__ import annotations

from accounting import (
    ABRT,
    BUS,
    ILL,
    SEGV,
    Ask,
    FaultDriver,
    Traffic,
    accounts,
    check,
    echo_server,
    on_loop,
    plan,
)
from accounting import EchoServer as Echo
from budget import Budget
from outcome import Outcome
from standalone import standalone

RELEASE_S = 90.0
MOST = 400
PER_S = 6.0
WORKERS = 4
ASKS = (Ask("plain", weight=5), Ask("working", "sleep 0.004", weight=5))


def run(budget: Budget) -> list[Outcome]:
    """Crash `n` workers."""
    count = budget.trials(MOST, 1.2 / PER_S)
    with echo_server() as echo:
        echo.start(batch_size=8, default_workers_per_model=WORKERS, job_queue_size=1000)
        echo.begin()
        done = on_loop(_load(echo, count, budget))
        verdict = check(echo.evidence(WORKERS))
    return [accounts("worker crashes under load (F08)", verdict, done, "crash", also=("status",))]


async def _load(echo: Echo, count: int, budget: Budget) -> int:
    driver = FaultDriver(plan(budget.seed, PER_S, [SEGV, ABRT, BUS, ILL]), echo.pids)
    async with Traffic(echo, ASKS, budget.seed):
        await driver.run(count, lambda: budget.is_over)
    return len(driver.done)


if __name__ == "__main__":
    standalone(run)
