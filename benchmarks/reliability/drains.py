"""F13, I12: servers are told to stop at 0 to 100 % load, over HTTP and gRPC; nobody is reset.

Each trial is a server of its own with clients that connect anew for each request, that stay
connected and that call over gRPC, idle connections and half-sent requests. It gets SIGTERM at a
random moment. The load goes from none to as much as its workers can do.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from pathlib import Path

from accounting import Server, end, on_loop, percentile, say
from budget import Budget
from chaos.callers import CUT, OK, PARTED, REFUSED, RESET, WRONG
from chaos.drain import Drain, Load, drain
from outcome import Outcome
from standalone import standalone

RELEASE_S = 900.0
MOST = 200
_EACH_S = 4.0
_WORKERS = 2
_WORK_S = 0.01
_FULL = 24
"""So many clients keep both workers busy all the time."""


def run(budget: Budget) -> list[Outcome]:
    """Stop `n` servers."""
    rng = random.Random(budget.seed)
    stops: list[Drain] = []
    for number in range(budget.trials(MOST, _EACH_S)):
        if budget.is_over:
            break
        level = (number % 11) / 10
        stops.append(_one(rng, level, has_pre_drain=number % 4 == 3))
        if number % 10 == 9:
            say(f"{number + 1} stops, {sum(stop.books.counts[OK] for stop in stops):,} answers")
    return [_resets(stops), _ends(stops), _unready(stops)]


def _one(rng: random.Random, level: float, has_pre_drain: bool) -> Drain:
    clients = round(_FULL * level)
    fresh = rng.randint(0, clients)
    kept = rng.randint(0, clients - fresh)
    load = Load(fresh, kept, clients - fresh - kept, rng.randint(0, 4), rng.randint(0, 3), _WORK_S)
    with tempfile.TemporaryDirectory(prefix="marserve-drain-") as folder:
        server = Server(Path(folder))
        try:
            server.pack("echo", "moody.py")
            server.start(
                load_models="echo.mar",
                default_workers_per_model=_WORKERS,
                pre_drain=1 if has_pre_drain else 0,
            )
            return on_loop(drain(server, load, rng.uniform(0.0, 0.4), asks_readiness=has_pre_drain))
        finally:
            end(server)


def _resets(stops: list[Drain]) -> Outcome:
    counts: Counter[str] = Counter()
    for stop in stops:
        counts += stop.books.counts
        if stop.books.lost():
            say(str(stop.books))
    halves = [half for stop in stops for half in stop.halves]
    torn = sum(not half.startswith(b"HTTP/1.1 200 ") for half in halves)
    lost = counts[RESET] + counts[CUT] + counts[WRONG]
    return Outcome(
        property="stops under load (F13): accepted requests reset, cut or answered wrongly",
        n=len(stops),
        bar="0",
        figure=str(lost + torn),
        passed=lost + torn == 0,
        notes=f"{counts[OK]:,} answered, {counts[REFUSED]} told to come back, {len(halves)} were "
        f"half sent, {counts[PARTED]} found their idle connection closed",
        failures=sum(bool(stop.books.lost()) for stop in stops),
        unit="stop",
    )


def _ends(stops: list[Drain]) -> Outcome:
    wrong = [stop.exit_code for stop in stops if stop.exit_code != 0]
    took = sorted(stop.took_s for stop in stops)
    return Outcome(
        property="stops under load (F13): exit code 0, at the latest a second after the grace",
        n=len(stops),
        bar="0 others, ≤ 31 s",
        figure=f"{len(wrong)} others, median {percentile(took, 0.5):.2f} s, most {took[-1]:.2f} s",
        passed=not wrong and took[-1] <= 31.0,
        notes="idle keep-alive connections and open gRPC channels are there",
        unit="stop",
    )


def _unready(stops: list[Drain]) -> Outcome:
    lags = [stop.unready_after_s for stop in stops if stop.unready_after_s is not None]
    most = max(lags, default=0.0)
    return Outcome(
        property="stops under load (F13): from SIGTERM until readiness is false",
        n=len(lags),
        bar="≤ 100 ms",
        figure=f"median {percentile(lags, 0.5) * 1000:.1f} ms, most {most * 1000:.1f} ms",
        passed=most <= 0.1,
        unit="stop",
    )


if __name__ == "__main__":
    standalone(run)
