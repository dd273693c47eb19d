"""SEC-23: floods of HTTP/2 frames on the gRPC port, from one client, beside good traffic.

    python benchmarks/reliability/h2_floods.py --n 400000

Resets, resets that the server is made to send, pings, settings, empty frames, headers without end,
headers that unfold to more than they are: each at 50,000 a second while the time lasts. `n` is the
number of frames, all kinds together.
"""

from __future__ import annotations

import asyncio

from accounting import echo_server, on_loop, say
from attackers import FLOODS
from beside import Attackers, Beside, beside, cpu_s, descriptors
from budget import Budget
from outcome import Outcome
from standalone import standalone

MOST = 8 * 60 * 50_000
FRAMES_PER_S = 50_000
PER_S = 100.0
_ALIVE_S = 10.0


def run(budget: Budget) -> list[Outcome]:
    """Send `n` frames."""
    count = budget.trials(MOST, 1 / FRAMES_PER_S)
    each_s = max(0.5, count / len(FLOODS) / FRAMES_PER_S)
    sent: dict[str, int] = {}
    spent: list[float] = []
    with echo_server(has_journal=False) as echo:
        echo.start(batch_size=8, default_workers_per_model=1)
        host, _, port = echo.grpc.rpartition(":")
        address = host, int(port)
        before = descriptors(echo.pid)

        async def attack() -> None:
            used, began = cpu_s(echo.pid), asyncio.get_running_loop().time()
            for name in FLOODS:
                attackers = await Attackers.start(name, address, FRAMES_PER_S, each_s)
                try:
                    told = await attackers.told(each_s + 30.0)
                finally:
                    await attackers.end()
                say(f"{name}: {told}")
                sent[name] = int(told.get("sent", 0))
            spent.append((cpu_s(echo.pid) - used) / (asyncio.get_running_loop().time() - began))

        others = on_loop(beside(echo, PER_S, 3.0, attack))
        is_flat = echo.settle(lambda: descriptors(echo.pid) <= before + 2)
        is_alive = echo.settle(lambda: echo.server.predict("echo", b"1").status == 200, _ALIVE_S)
    return [_served(sent, is_alive), _flat(sent, is_flat), _cores(sent, spent[0]), _good(others)]


def _served(sent: dict[str, int], is_alive: bool) -> Outcome:
    return Outcome(
        property="floods of frames (SEC-23): the server serves afterwards",
        n=sum(sent.values()),
        bar="yes",
        figure="yes" if is_alive else "no",
        passed=is_alive and all(sent.values()),
        unit="frame",
        notes=", ".join(sent),
    )


def _flat(sent: dict[str, int], is_flat: bool) -> Outcome:
    return Outcome(
        property="floods of frames (SEC-23): descriptors",
        n=sum(sent.values()),
        bar="no more than before",
        figure="no more than before" if is_flat else "more",
        passed=is_flat,
        unit="frame",
    )


def _cores(sent: dict[str, int], cores: float) -> Outcome:
    return Outcome(
        property="floods of frames (SEC-23): cores that the server uses",
        n=sum(sent.values()),
        bar="≤ 1",
        figure=f"{cores:.2f}",
        passed=cores <= 1.0,
        unit="frame",
    )


def _good(others: Beside) -> Outcome:
    return others.outcome("floods of frames (SEC-23)", 1.5)


if __name__ == "__main__":
    standalone(run)
