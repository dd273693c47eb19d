"""F20, F21: models come and go under load, workers become more and fewer, operators quarrel.

The quarrel is Triton's own test, harder: 32 threads load and unload one model 2,048 times each,
none knowing of the others, while another model is asked; the server stays ready.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from accounting import Server, end, say
from budget import Budget
from chaos.changes import ask_meanwhile, cycles, held, left_over, quarrel, rss_bytes, scalings
from outcome import Outcome
from standalone import standalone

RELEASE_S = 1200.0
CYCLES, SCALINGS = 1000, 2000
QUARREL_THREADS, QUARREL_EACH = 32, 2048
_CYCLE_S, _SCALING_S, _CHANGE_S = 0.15, 0.1, 0.01
_MOST_WORKERS = 8
_GROWTH_BYTES = 5 << 20


def run(budget: Budget) -> list[Outcome]:
    """Change things `n` times in each of three ways."""
    with tempfile.TemporaryDirectory(prefix="marserve-changes-") as folder:
        server = Server(Path(folder))
        try:
            server.pack("m", "echo.py")
            server.pack("guest", "echo.py")
            server.start(load_models="m.mar")
            parts = [budget.share(1 / 3) for _ in range(3)]
            return [
                *_cycles(server, parts[0]),
                _scalings(server, parts[1]),
                _quarrel(server, parts[2]),
            ]
        finally:
            end(server)


def _cycles(server: Server, budget: Budget) -> list[Outcome]:
    count = budget.trials(CYCLES, _CYCLE_S)
    ask_meanwhile(server, "guest", lambda tally: cycles(server, "guest.mar", "guest", 20, tally))
    before, memory = held(server), rss_bytes(server)
    tally = ask_meanwhile(
        server, "guest", lambda tally: cycles(server, "guest.mar", "guest", count, tally)
    )
    left = _settled(server, before)
    grown = rss_bytes(server) - memory
    errors = sum(tally.server_errors().values()) + tally.changes.total() - tally.changes[200]
    if errors:
        say(f"{tally.requests} {tally.changes} {tally.words}")
    return [
        Outcome(
            property="models that come and go under load (F20): 5xx, changes refused",
            n=count,
            bar="0",
            figure=str(errors),
            passed=errors == 0,
            notes=f"{tally.requests[200]:,} answered, {tally.requests[404]:,} times it was gone",
            failures=errors,
            unit="cycle",
        ),
        Outcome(
            property="models that come and go under load (F20): descriptors, processes, files, RSS",
            n=count,
            bar="none more, < 5 MiB",
            figure=f"{left or 'none more'}, {grown / (1 << 20):+.1f} MiB",
            passed=not left and grown < _GROWTH_BYTES,
            unit="cycle",
        ),
    ]


def _scalings(server: Server, budget: Budget) -> Outcome:
    count = budget.trials(SCALINGS, _SCALING_S)
    rng = random.Random(budget.seed)
    tally = ask_meanwhile(
        server, "m", lambda tally: scalings(server, "m", count, _MOST_WORKERS, rng, tally)
    )
    server.manage("PUT", "/models/m?min_worker=1&synchronous=true")
    bad = sum(n for status, n in tally.requests.items() if status not in (200, 503))
    bad += sum(n for status, n in tally.changes.items() if status not in (200, 202))
    if bad:
        say(f"{tally.requests} {tally.changes} {tally.words}")
    return Outcome(
        property="workers scaled from 0 to 8 under load (F21): requests lost, changes refused",
        n=count,
        bar="0",
        figure=str(bad),
        passed=bad == 0,
        notes=f"{tally.requests[200]:,} answered; {tally.requests[503]:,} refused while there was "
        "no worker",
        failures=bad,
        unit="change",
    )


def _quarrel(server: Server, budget: Budget) -> Outcome:
    wanted = budget.trials(QUARREL_THREADS * QUARREL_EACH, _CHANGE_S)
    threads = min(QUARREL_THREADS, wanted)
    each = max(1, wanted // threads)
    unready: list[int] = []

    def work(tally: object) -> None:
        began = time.monotonic()
        quarrel(server, "guest.mar", "guest", threads, each, tally)  # type: ignore[arg-type]
        say(f"{threads} times {each} changes took {time.monotonic() - began:.1f} s")
        unready.append(server.call("GET", "inference", "/healthz/ready").status)

    tally = ask_meanwhile(server, "m", work)
    bad = sum(n for status, n in tally.requests.items() if status != 200)
    bad += sum(n for status, n in tally.changes.items() if status not in (200, 404, 409))
    bad += unready != [200]
    if bad:
        say(f"{tally.requests} {tally.changes} {unready} {tally.words}")
    return Outcome(
        property="one model loaded and unloaded by many at once: requests and changes that failed",
        n=threads * each,
        bar="0",
        figure=str(bad),
        passed=bad == 0,
        notes=f"{threads} threads; {tally.changes[200]:,} changes made, the others were told why "
        f"not; {tally.requests[200]:,} requests for another model",
        failures=bad,
        unit="change",
    )


def _settled(server: Server, before: object) -> dict[str, str]:
    until = time.monotonic() + 10.0
    while (left := left_over(server, before)) and time.monotonic() < until:  # type: ignore[arg-type]
        time.sleep(0.1)
    return left


if __name__ == "__main__":
    standalone(run)
