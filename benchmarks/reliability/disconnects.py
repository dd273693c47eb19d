"""F11: clients go away in each phase of a request, over HTTP and gRPC, mid-stream as well.

    python benchmarks/reliability/disconnects.py --n 50000

No worker may be restarted by it, nothing may stay queued or running, no descriptor stay open, and
others who ask at the same time get their own answers.
"""

from __future__ import annotations

import asyncio
import time

from accounting import (
    PLAIN,
    ClosedLoop,
    EchoServer,
    accounts,
    check,
    cycle,
    echo_server,
    on_loop,
    say,
)
from budget import Budget
from disconnecting import PHASES, Prey, leave
from outcome import Outcome
from standalone import standalone

RELEASE_S = 300.0
MOST = 50_000
AT_ONCE = 48
WORKERS = 2
MODELS = ("echo", "gone", "streams")
_WARM = 600
_SETTLE_S = 20.0


def run(budget: Budget) -> list[Outcome]:
    """Have `n` clients go away."""
    count = budget.trials(MOST, 1 / 900)
    with echo_server(has_journal=False, models=("echo", "gone")) as echo:
        _start(echo)
        prey = Prey(echo.http, _address(echo.grpc), lambda number: b"gone-%d" % number, "gone")
        on_loop(leave(prey, _WARM, AT_ONCE, 7))  # whatever is made once is there afterwards
        _settled(echo)
        pids = _pids(echo)
        echo.begin()
        began = time.monotonic()
        try:
            left, asked = on_loop(_leave(echo, prey, count, budget))
        except BaseExceptionGroup:
            say(_log_of_deaths(echo))
            raise
        took_s = time.monotonic() - began
        is_settled = _settled(echo)
        verdict = check(echo.evidence())
        if set(pids) != set(_pids(echo)):
            say(_log_of_deaths(echo))
        restarts = len(pids) - len(set(pids) & set(_pids(echo)))
    total = sum(left.values())
    say(f"{total:,} clients left within {took_s:.0f} s while {asked:,} requests were answered")
    return [
        Outcome(
            property="client disconnects (F11): worker restarts",
            n=total,
            bar="0",
            figure=str(restarts),
            passed=restarts == 0,
            failures=restarts,
            unit="disconnect",
            notes=f"{len(PHASES)} phases, HTTP and gRPC, {total / took_s:.0f}/s",
        ),
        Outcome(
            property="client disconnects (F11): nothing stays queued, and calls end",
            n=total,
            bar="0 waiting",
            figure="0 waiting" if is_settled else "something waits",
            passed=is_settled,
        ),
        accounts("client disconnects (F11), others meanwhile", verdict, total, "disconnect"),
    ]


def _start(echo: EchoServer) -> None:
    echo.server.pack("streams", "streamer.py")
    echo.start(
        batch_size=8,
        default_workers_per_model=WORKERS,
        load_models="echo.mar,gone.mar,streams.mar",
        job_queue_size=1000,
    )


def _log_of_deaths(echo: EchoServer) -> str:
    logs = sorted((echo.server.root / "logs").glob("*.log"))
    lines = [line for path in logs for line in path.read_text(errors="replace").splitlines()]
    return "\n".join(lines)[-400000:]


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _pids(echo: EchoServer) -> list[int]:
    return [pid for model in MODELS for pid in echo.ready_pids(model)]


def _settled(echo: EchoServer) -> bool:
    """Whether both models come to rest."""
    return echo.settle(
        lambda: all(echo.counters(model).waiting == 0 for model in MODELS), _SETTLE_S
    )


async def _leave(
    echo: EchoServer, prey: Prey, count: int, budget: Budget
) -> tuple[dict[str, int], int]:
    others = ClosedLoop(echo.ledger, echo.http, "echo", cycle((PLAIN,), budget.seed), pause_s=0.01)
    await others.start(4)
    telling = asyncio.create_task(_tell(echo))
    try:
        left = await leave(prey, count, AT_ONCE, budget.seed, lambda: budget.is_over)
    finally:
        telling.cancel()
        await others.finish()
    return left, len(echo.ledger)


async def _tell(echo: EchoServer) -> None:
    while True:
        await asyncio.sleep(10.0)
        say(f"{len(echo.ledger):,} requests of others so far")


if __name__ == "__main__":
    standalone(run)
