"""F14: a server is restarted again and again under load; nobody is refused, nothing is lost.

`marserve restart` each time: the successor takes the listening sockets, loads all models, and only
then does the process before it accept no more.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from accounting import Server, end, on_loop, percentile, say
from budget import Budget
from chaos.callers import CUT, NOT_ACCEPTED, OK, PARTED, REFUSED, RESET, WRONG, Books, Callers
from chaos.restarts import Restarted, restart
from outcome import Outcome
from standalone import standalone

RELEASE_S = 420.0
MOST = 100
_EACH_S = 3.5
_WORKERS = 2
_QUIET_S = 3.0


def run(budget: Budget) -> list[Outcome]:
    """Restart `n` times."""
    with tempfile.TemporaryDirectory(prefix="marserve-restart-") as folder:
        server = Server(Path(folder))
        try:
            server.pack("echo", "moody.py")
            server.start(load_models="echo.mar", default_workers_per_model=_WORKERS)
            books, restarts, quiet_until_s = on_loop(_load(server, budget))
        finally:
            end(server)
    return [_refused(books, restarts), _lost(books, restarts), _slower(books, quiet_until_s)]


async def _load(server: Server, budget: Budget) -> tuple[Books, list[Restarted], float]:
    callers = Callers(
        server.address("inference"),
        server.addresses["grpc_inference"].removeprefix("grpc://"),
        body=b"sleep 0.002",
        ends_with_the_server=False,
        pause_s=0.01,
    )
    await callers.start(fresh=6, kept=6, calls=4)
    loop = asyncio.get_running_loop()
    await asyncio.sleep(_QUIET_S)
    quiet_until_s = loop.time()
    done: list[Restarted] = []
    for number in range(budget.trials(MOST, _EACH_S)):
        if budget.is_over:
            break
        done.append(await asyncio.to_thread(restart, server))
        if done[-1].code != 0:
            say(done[-1].said)
        await asyncio.sleep(0.1 + (number % 7) * 0.05)
        if number % 10 == 9:
            say(f"{number + 1} restarts: {callers.books}")
    return await callers.finish(), done, quiet_until_s


def _refused(books: Books, restarts: list[Restarted]) -> Outcome:
    bad = books.counts[NOT_ACCEPTED] + books.counts[REFUSED]
    return Outcome(
        property="restarts under load (F14): connections refused, requests told to come back",
        n=len(restarts),
        bar="0",
        figure=str(bad),
        passed=bad == 0,
        notes=f"{books.counts[OK]:,} requests over HTTP and gRPC",
        failures=bad,
        unit="restart",
    )


def _lost(books: Books, restarts: list[Restarted]) -> Outcome:
    failed = [one for one in restarts if one.code != 0 or one.former_code != 0]
    lost = sum(books.counts[one] for one in (RESET, CUT, WRONG, PARTED))
    if lost:
        say(str(books))
    took = sorted(one.took_s for one in restarts)
    return Outcome(
        property="restarts under load (F14): requests lost, restarts failed",
        n=len(restarts),
        bar="0, 0",
        figure=f"{lost}, {len(failed)}",
        passed=lost == 0 and not failed,
        notes=f"until the successor serves: median {percentile(took, 0.5):.1f} s",
        failures=lost + len(failed),
        unit="restart",
    )


def _slower(books: Books, quiet_until_s: float) -> Outcome:
    """The load shares the machine with a second set of workers that load their model."""
    before = sorted(took for sent, took in books.latencies_s if sent < quiet_until_s)
    during = sorted(took for sent, took in books.latencies_s if sent >= quiet_until_s)
    usual, now = percentile(before, 0.99), percentile(during, 0.99)
    bound = max(1.5 * usual, usual + 0.005)
    return Outcome(
        property="restarts under load (F14): p99 while successors load",
        n=len(during),
        bar="reported; 1.5 times the usual is the aim on an idle machine",
        figure=f"{now * 1000:.1f} ms, {now / usual:.2f} times the usual {usual * 1000:.1f} ms",
        passed=True,
        notes="" if now <= bound else "over the aim: starting Python needs a core",
        unit="request",
    )


if __name__ == "__main__":
    standalone(run)
