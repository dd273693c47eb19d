"""F38: handlers that break whatever a process can break of its own; nobody else may notice.

Twenty ways, among innocent requests. Who asked for it may be answered or get an error. Workers that
are broken are replaced, and nothing that a handler started outlives its worker.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import psutil
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
from outcome import Outcome
from standalone import standalone

RELEASE_S = 240.0
MOST = 1_000
WORKERS = 4
WAYS = (
    *("closes-descriptors", "closes-output", "changes-folder", "changes-mask", "ignores-signals"),
    *("patches-sockets", "patches-json", "leaves-session", "prints-much", "starts-threads"),
    *("leaves-child", "leaves-zombie", "fills-memory", "wants-few-descriptors"),
    *("clears-environment", "empties-modules", "stops-collecting", "exhausts-stack"),
    *("kills-parent", "kills-group"),
)
ASKS = (Ask("plain", weight=400), *(Ask(f"evil {way}", f"evil {way}") for way in WAYS))
# whoever asks for it may get any answer, or an error; never nothing
_ANY = Allowed(statuses=(200, 500, 503, 504, 507, 1004, 1013, 1014), executions=12)
# a batch may be run again in parts when one of it raises
ALLOWED = {"plain": Allowed(executions=12)} | {f"evil {way}": _ANY for way in WAYS}


def run(budget: Budget) -> list[Outcome]:
    """Ask for `n` evil deeds."""
    count = budget.trials(MOST, 0.2)
    with echo_server() as echo:
        echo.start(
            batch_size=4,
            default_workers_per_model=WORKERS,
            job_queue_size=1000,
            model={"responseTimeout": 10},
        )
        echo.begin()
        on_loop(_load(echo, count, budget))
        # a handler may have left children and open files; they go with their workers
        verdict = check(echo.evidence(WORKERS, leaks_too=False), ALLOWED)
        rows = [row for row in echo.ledger.rows() if row.kind != "plain"]
        server_pid = echo.pid
        tree = [psutil.Process(server_pid), *psutil.Process(server_pid).children(recursive=True)]
        echo.server.stop()
        left = _left(tree)
    done = Counter(row.kind for row in rows)
    say(", ".join(f"{kind.removeprefix('evil ')} {number}" for kind, number in done.items()))
    return [
        accounts(
            "handlers that misbehave (F38)",
            verdict,
            len(rows),
            "deed",
            also=("status",),
            notes=f"{len(WAYS)} ways",
        ),
        Outcome(
            property="handlers that misbehave (F38): processes that outlive the server",
            n=len(rows),
            bar="0",
            figure=f"{left}",
            passed=left == 0,
            failures=left,
            unit="deed",
        ),
    ]


def _left(tree: list[psutil.Process], within_s: float = 2.0) -> int:
    until = time.monotonic() + within_s
    while any(_lives(one) for one in tree) and time.monotonic() < until:
        time.sleep(0.05)
    return sum(_lives(one) for one in tree)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def _load(echo: EchoServer, count: int, budget: Budget) -> None:
    traffic = Traffic(echo, ASKS, budget.seed, clients=12, per_s=40, grpc_clients=4, pause_s=0.05)
    done = 0
    async with traffic:
        while done < count and not budget.is_over:
            await asyncio.sleep(2.0)
            done = sum(row.kind != "plain" for row in echo.ledger.rows())
            say(f"{done:,} of {count:,} deeds, {len(echo.ledger):,} requests")


if __name__ == "__main__":
    standalone(run)
