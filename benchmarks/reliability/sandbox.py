"""SEC-33: what shutting workers in costs, at their start and on their throughput.

Both are counted in processor time, which a busy machine does not change much.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
from budget import Budget
from outcome import Outcome
from standalone import standalone

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "harness"))

from running_server import Server

from marserve.workers import sandbox
from marserve.workers.messages import Confinement

SPAWN_LIMIT_MS = 10.0
MODES = ("off", "default", "strict")
_ROUNDS = 6


def run(budget: Budget) -> list[Outcome]:
    """Shut processes in, `n` times for each mode; then serve with and without."""
    count = budget.trials(2000, 0.01)
    costs = {mode: _cost_ms(mode, count) for mode in MODES}
    added = {mode: statistics.median(costs[mode]) for mode in MODES}
    worst = max(added["default"], added["strict"])
    worker_us, server_us = _per_request(budget)
    loss = (worker_us["default"] - worker_us["off"]) / (worker_us["off"] + server_us["off"])
    return [
        Outcome(
            "shutting a worker in",
            count * len(MODES),
            f"≤ {SPAWN_LIMIT_MS:g} ms",
            ", ".join(f"{mode} {ms:.2f} ms" for mode, ms in added.items()),
            worst <= SPAWN_LIMIT_MS,
            "SEC-33; medians of processor time",
        ),
        Outcome(
            "processor time that the sandbox adds to a request",
            _ROUNDS,
            "≤ 1 % of worker and server together",
            f"{loss:+.2%}",
            loss <= 0.01,
            f"SEC-33; a worker takes {worker_us['off']:.1f} µs without and "
            f"{worker_us['default']:.1f} µs with it, the server {server_us['off']:.1f} µs",
        ),
    ]


def _cost_ms(mode: str, count: int) -> list[float]:
    """In fork after fork, as the zygote does it."""
    found = []
    for _ in range(count):
        reader, writer = os.pipe()
        if os.fork() == 0:
            began = time.process_time()
            sandbox.confine(Confinement(mode=mode, model_dir="/usr", has_network=mode != "strict"))
            os.write(writer, str(time.process_time() - began).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            found.append(float(pipe.read()) * 1000)
        os.wait()
    return found


def _per_request(budget: Budget) -> tuple[dict[str, float], dict[str, float]]:
    """Microseconds of worker and server for one request, with the sandbox and without, in turn."""
    seconds = min(4.0, max(0.5, budget.time_s / (3 * _ROUNDS)))
    with tempfile.TemporaryDirectory() as root:
        servers = {}
        for mode in ("off", "default"):
            server = Server(Path(root) / mode)
            server.pack("echo", "version.py")
            servers[mode] = server.start(load_models="echo.mar", sandbox=mode)
        worker: dict[str, list[float]] = {mode: [] for mode in servers}
        front: dict[str, list[float]] = {mode: [] for mode in servers}
        try:
            for _ in range(_ROUNDS):
                for mode, server in servers.items():
                    spent = _round(server, seconds)
                    worker[mode].append(spent[0])
                    front[mode].append(spent[1])
        finally:
            for server in servers.values():
                server.stop()
    return _medians(worker), _medians(front)


def _medians(found: dict[str, list[float]]) -> dict[str, float]:
    return {mode: statistics.median(values) for mode, values in found.items()}


def _round(server: Server, seconds: float) -> tuple[float, float]:
    assert server.process is not None
    processes = [psutil.Process(pid) for pid in (*server.pids("echo"), server.process.pid)]
    before = [sum(process.cpu_times()[:2]) for process in processes]
    end_at, count = time.monotonic() + seconds, 0
    connection = server.connect()
    while time.monotonic() < end_at:
        connection.request("POST", "/predictions/echo", b"x")
        connection.getresponse().read()
        count += 1
    connection.close()
    after = [sum(process.cpu_times()[:2]) for process in processes]
    worker, front = (
        (late - early) / count * 1e6 for early, late in zip(before, after, strict=True)
    )
    return worker, front


if __name__ == "__main__":
    standalone(run)
