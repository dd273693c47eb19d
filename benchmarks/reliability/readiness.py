"""I5: readiness tells the truth within a second, over many transitions, and is told fast.

The workers of a model are killed, or stopped while they have nothing to do; readiness must become
false, and true again once they are back. In between, liveness and readiness are asked for all the
time: both come from what the server knows.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path

from accounting import Server, end, percentile, say
from budget import Budget
from outcome import Outcome
from standalone import standalone

RELEASE_S = 900.0
MOST = 1000
_EACH_S = 0.6
_PATIENCE_S = 20.0
_WORKERS = 2


def run(budget: Budget) -> list[Outcome]:
    """Make `n` transitions, half of them to false."""
    rng = random.Random(budget.seed)
    lags: dict[str, list[float]] = {"killed": [], "stopped": [], "back": []}
    took: list[float] = []
    with tempfile.TemporaryDirectory(prefix="marserve-ready-") as folder:
        server = Server(Path(folder))
        try:
            server.pack("m", "naps.py")
            server.start(load_models="m.mar", default_workers_per_model=_WORKERS)
            probe = Probe(server, took)
            wanted = budget.trials(MOST, _EACH_S)
            while sum(map(len, lags.values())) < wanted and not budget.is_over:
                _one(server, probe, rng, lags)
                done = sum(map(len, lags.values()))
                if done % 100 < 2:
                    say(f"{done} transitions")
        finally:
            end(server)
    return [_truth(lags), _fast(took)]


class Probe:
    """Asks for readiness over one connection."""

    def __init__(self, server: Server, took: list[float]) -> None:
        self._server = server
        self._took = took
        self._connection: HTTPConnection | None = None

    def is_ready(self) -> bool:
        """What readiness says now."""
        is_ready = self._status("/healthz/ready") == 200
        assert self._status("/healthz/live") == 200
        return is_ready

    def _status(self, path: str) -> int:
        if self._connection is None:
            self._connection = self._server.connect()
        began = time.monotonic()
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        response.read()
        self._took.append(time.monotonic() - began)
        if response.will_close:
            self._connection.close()
            self._connection = None
        return response.status

    def until(self, is_ready: bool) -> float:
        """How long from now until readiness is that."""
        began = time.monotonic()
        while self.is_ready() is not is_ready:
            if time.monotonic() - began > _PATIENCE_S:
                return _PATIENCE_S
            time.sleep(0.005)
        return time.monotonic() - began


def _one(server: Server, probe: Probe, rng: random.Random, lags: dict[str, list[float]]) -> None:
    """To false, and back."""
    server.wait_until(lambda: [w["status"] for w in server.workers("m")] == ["READY"] * _WORKERS)
    time.sleep(rng.random() * 0.4)
    pids = server.pids("m")
    if rng.random() < 0.5:
        _signal(pids, signal.SIGKILL)
        lags["killed"].append(probe.until(False))
        # a wish of the operator ends the back-off that so many deaths bring about
        server.manage("PUT", f"/models/m?min_worker={_WORKERS}&synchronous=true")
    else:
        _signal(pids, signal.SIGSTOP)
        lags["stopped"].append(probe.until(False))
        _signal(pids, signal.SIGCONT)
        lags["back"].append(probe.until(True))


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        assert pid > 0
        os.kill(pid, number)


def _truth(lags: dict[str, list[float]]) -> Outcome:
    every = [lag for some in lags.values() for lag in some]
    late = sum(lag > 1.0 for lag in every)
    told = ", ".join(
        f"{name} median {percentile(some, 0.5) * 1000:.0f} ms, most {max(some) * 1000:.0f} ms"
        for name, some in lags.items()
        if some
    )
    return Outcome(
        property="readiness (I5): transitions that it told later than after a second",
        n=len(every),
        bar="0",
        figure=str(late),
        passed=late == 0,
        notes=told,
        failures=late,
        unit="transition",
    )


def _fast(took: list[float]) -> Outcome:
    high = percentile(took, 0.99)
    return Outcome(
        property="readiness and liveness (I5): time to answer while workers die and hang",
        n=len(took),
        bar="p99 ≤ 50 ms",
        figure=f"median {percentile(took, 0.5) * 1000:.1f} ms, p99 {high * 1000:.1f} ms",
        passed=high <= 0.05,
        unit="answer",
    )


if __name__ == "__main__":
    standalone(run)
