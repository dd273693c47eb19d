"""F27: no descriptors are left: 1,000 clients come to a server that may have 256 open.

    python benchmarks/reliability/descriptors.py --n 1000

The limit falls on a running server, so its own count of connections cannot help it. Who has a
connection is served, nothing spins, and it takes newcomers again as soon as there is room.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import time

from accounting import EchoServer, echo_server, on_loop
from beside import Attackers, cpu_s
from budget import Budget
from outcome import Outcome
from standalone import standalone

MOST = 1000
DESCRIPTORS = 256
_SPIN_S = 5.0
_MOST_CPU = 0.2
_RECOVERY_S = 1.0
_GIVE_UP_S = 15.0
_ASK = b"POST /predictions/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1"


def run(budget: Budget) -> list[Outcome]:
    """Have `n` clients come."""
    count = budget.trials(MOST, 0.01)
    with echo_server(has_journal=False) as echo:
        echo.start(default_workers_per_model=1)
        with socket.create_connection(echo.http, timeout=10) as kept:
            assert _is_served(kept)
            resource.prlimit(echo.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
            cpu, is_kept, recovery_s = on_loop(_come(echo, kept, count))
    return [
        _outcome("processor time while nobody can come in", count, "≤ 20 %", f"{cpu:.1%}",
                 cpu <= _MOST_CPU),
        _outcome("who has a connection is served", count, "yes", "yes" if is_kept else "no",
                 is_kept),
        _outcome("newcomers are served after there is room", count, f"≤ {_RECOVERY_S:g} s",
                 f"{recovery_s:.2f} s", recovery_s <= _RECOVERY_S),
    ]  # fmt: skip


async def _come(echo: EchoServer, kept: socket.socket, count: int) -> tuple[float, bool, float]:
    clients = await Attackers.start("idle", echo.http, count)
    try:
        await clients.told(20.0)
        used, began = cpu_s(echo.pid), time.monotonic()
        await asyncio.sleep(_SPIN_S)
        cpu = (cpu_s(echo.pid) - used) / (time.monotonic() - began)
        is_kept = _is_served(kept)
    finally:
        await clients.end()
    left = time.monotonic()
    while time.monotonic() - left < _GIVE_UP_S:
        try:
            with socket.create_connection(echo.http, timeout=1.0) as one:
                if _is_served(one):
                    break
        except OSError:
            await asyncio.sleep(0.02)
    return cpu, is_kept, time.monotonic() - left


def _is_served(sock: socket.socket) -> bool:
    sock.sendall(_ASK)
    return sock.recv(4096).startswith(b"HTTP/1.1 200 ")


def _outcome(name: str, n: int, bar: str, figure: str, passed: bool) -> Outcome:
    name = f"no descriptors are left (F27): {name}"
    return Outcome(name, n, bar, figure, passed, unit="client")


if __name__ == "__main__":
    standalone(run)
