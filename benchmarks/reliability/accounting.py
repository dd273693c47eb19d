"""The accounting harness of the tests (`tests/harness/chaos/`), for scenarios, and their server.

Scenarios import what they need from here: the harness is not installed, and this module knows
where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "harness"))

import uvloop
from chaos import journal, poison, relay
from chaos.asks import PLAIN, Ask, cycle
from chaos.checker import Allowed, Evidence, Verdict, check
from chaos.echo import MODEL, EchoServer
from chaos.faults import (
    ABRT,
    BUS,
    ILL,
    KILL,
    KILL_FROZEN,
    SEGV,
    STOP,
    Done,
    FaultDriver,
    Way,
    plan,
)
from chaos.ledger import BROKEN, GONE, GRPC, Ledger, Row
from chaos.load import ClosedLoop, GrpcLoop, OpenLoop
from chaos.relay import Relay, Weather
from outcome import Outcome
from running_server import Server, end

__all__ = [
    "ABRT",
    "BROKEN",
    "BUS",
    "GONE",
    "GRPC",
    "ILL",
    "KILL",
    "KILL_FROZEN",
    "MODEL",
    "PLAIN",
    "SEGV",
    "STOP",
    "Allowed",
    "Ask",
    "ClosedLoop",
    "Done",
    "EchoServer",
    "Evidence",
    "FaultDriver",
    "GrpcLoop",
    "Ledger",
    "OpenLoop",
    "Relay",
    "Row",
    "Server",
    "Traffic",
    "Verdict",
    "Way",
    "Weather",
    "accounts",
    "check",
    "cycle",
    "echo_server",
    "journal",
    "on_loop",
    "percentile",
    "plan",
    "poison",
    "relay",
    "say",
]

T = TypeVar("T")


class Traffic:
    """A closed loop, an open loop and gRPC at the same time, on one model."""

    def __init__(
        self,
        echo: EchoServer,
        asks: Sequence[Ask],
        seed: int,
        *,
        clients: int = 16,
        per_s: float = 100.0,
        grpc_clients: int = 4,
        pause_s: float = 0.02,
        model: str = MODEL,
    ) -> None:
        book, http = echo.ledger, echo.http
        self.closed = ClosedLoop(book, http, model, cycle(asks, seed), pause_s=pause_s)
        self.open = OpenLoop(book, http, model, cycle(asks, seed + 1), per_s)
        self.grpc = GrpcLoop(book, echo.grpc, model, cycle(asks, seed + 2), pause_s=pause_s)
        self._counts = clients, grpc_clients

    async def __aenter__(self) -> Traffic:
        clients, grpc_clients = self._counts
        await self.closed.start(clients)
        await self.open.start()
        await self.grpc.start(grpc_clients)
        return self

    async def __aexit__(self, *error: object) -> None:
        loops = (self.closed, self.open, self.grpc)
        await asyncio.gather(*(loop.finish() for loop in loops))


@contextlib.contextmanager
def echo_server(
    *, has_journal: bool = True, models: tuple[str, ...] = (MODEL,)
) -> Iterator[EchoServer]:
    """An echo server in a folder of its own, not yet started; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="marserve-chaos-") as folder:
        echo = EchoServer(Path(folder), has_journal=has_journal, models=models)
        try:
            yield echo
        finally:
            end(echo.server)


def on_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """On the loop that the load needs."""
    return uvloop.run(coroutine)


def say(text: str) -> None:
    """One line of progress."""
    print(text, flush=True)


def accounts(
    name: str, verdict: Verdict, n: int, unit: str, *, notes: str = "", also: tuple[str, ...] = ()
) -> Outcome:
    """The outcome that nothing was lost, doubled or crossed, and that all books agree.

    Args:
        name: of the trouble: "worker kills under load".
        verdict: of the run.
        n: how often there was trouble.
        unit: what each was.
        notes: rows of the catalogue, and what a reader must know.
        also: further rules of the checker that must not be broken.
    """
    lost = verdict.count("lost", "broken off")
    doubled, crossed = verdict.count("doubled"), verdict.count("crossed", "wrong body")
    rest = {
        rule: verdict.broken[rule]
        for rule in ("executions", "made up", "counters", "queue", "leak", *also)
        if rule in verdict.broken
    }
    failures = lost + doubled + crossed + sum(rest.values())
    figure = f"{lost} / {doubled} / {crossed}"
    if rest:
        figure += "; " + ", ".join(f"{rule}: {count:,}" for rule, count in rest.items())
    if not verdict.is_clean:
        say(verdict.report())
    return Outcome(
        property=f"{name}: answers lost / doubled / crossed, books agree",
        n=n,
        bar="0 / 0 / 0",
        figure=figure,
        passed=failures == 0,
        failures=failures,
        unit=unit,
        notes=f"{notes}{'; ' if notes else ''}{verdict.requests:,} requests",
    )


def percentile(values: list[float], q: float) -> float:
    """The value that the part `q` of all is not above; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
