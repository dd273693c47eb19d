"""F34, F35: versions that cannot load are refused with their cause; the one before serves on.

Each bad version fails in one of six ways: it raises, lacks a module, crashes, exits, lacks memory,
or hangs. Then some are registered without waiting, so that the server goes on trying: that must
cost little, and requests for them must be refused fast.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil
from accounting import Server, end, percentile, say
from budget import Budget
from chaos.changes import Tally, ask_meanwhile
from outcome import Outcome
from standalone import standalone

RELEASE_S = 300.0
MOST = 200
_EACH_S = 0.6
_WAYS = ("raises", "imports", "crashes", "exits", "memory", "hangs")
_STEADY_S = 15.0
_REJECTS = 300


def run(budget: Budget) -> list[Outcome]:
    """Register `n` bad versions."""
    with tempfile.TemporaryDirectory(prefix="marserve-bad-") as folder:
        server = Server(Path(folder))
        try:
            for version in ("1.0", *_WAYS):
                server.pack("m", "loads_badly.py", version, file_name=f"m-{version}.mar")
            server.start(load_models="m-1.0.mar")
            return [_refused(server, budget), *_steady(server)]
        finally:
            end(server)


def _refused(server: Server, budget: Budget) -> Outcome:
    count, tried, wrong = budget.trials(MOST, _EACH_S), 0, 0

    def work(_: Tally) -> None:
        nonlocal tried, wrong
        while tried < count and not budget.is_over:
            version = _WAYS[tried % len(_WAYS)]
            reply = server.manage(
                "POST", f"/models?url=m-{version}.mar&initial_workers=1&startup_timeout=1"
            )
            tried += 1
            told = reply.json().get("message", "")
            if reply.status not in (500, 507) or "Failed to start workers" not in told:
                wrong += 1
                say(f"{version}: {reply.status} {told}")

    tally = ask_meanwhile(server, "m", work, clients=2)
    bad = sum(n for status, n in tally.requests.items() if status != 200)
    return Outcome(
        property="versions that cannot load (F34): not refused with a cause, requests harmed",
        n=tried,
        bar="0, 0",
        figure=f"{wrong}, {bad}",
        passed=wrong == 0 and bad == 0,
        notes=f"{tally.requests[200]:,} requests for the version that serves",
        failures=wrong + bad,
        unit="bad version",
    )


def _steady(server: Server) -> list[Outcome]:
    failing = [version for version in _WAYS if version != "hangs"]
    for version in failing:
        server.manage("POST", f"/models?url=m-{version}.mar&initial_workers=1&synchronous=false")
    server.wait_until(lambda: all(_is_failed(server, one) for one in failing), 120.0)
    before = _cpu_s(server)
    began = time.monotonic()
    took: list[float] = []
    statuses: set[int] = set()
    for number in range(_REJECTS):
        asked = time.monotonic()
        reply = server.predict(f"m/{failing[number % len(failing)]}")
        took.append(time.monotonic() - asked)
        statuses.add(reply.status)
    time.sleep(_STEADY_S)
    share = (_cpu_s(server) - before) / (time.monotonic() - began)
    high = percentile(took, 0.99)
    return [
        Outcome(
            property="versions that cannot load (F34): CPU while they go on being tried",
            n=len(failing),
            bar="≤ 10 % of a core",
            figure=f"{share:.1%}",
            passed=share <= 0.1,
            notes=f"server and all its processes; {_REJECTS} refusals are part of it",
            unit="bad version",
        ),
        Outcome(
            property="a model without a worker (F35): time until a request is refused",
            n=len(took),
            bar="p99 ≤ 10 ms, all 503",
            figure=f"p99 {high * 1000:.1f} ms, {sorted(statuses)}",
            passed=high <= 0.01 and statuses == {503},
            notes="each over a connection of its own",
            unit="request",
        ),
    ]


def _is_failed(server: Server, version: str) -> bool:
    reply = server.manage("GET", f"/models/m/{version}")
    return reply.status == 200 and reply.json()[0]["state"] == "LOAD_FAILED"


def _cpu_s(server: Server) -> float:
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    own = process.cpu_times()
    total = own.user + own.system
    for child in process.children(recursive=True):
        try:
            spent = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += spent.user + spent.system + spent.children_user + spent.children_system
    return total


if __name__ == "__main__":
    standalone(run)
