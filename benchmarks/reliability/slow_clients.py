"""SEC-17, F25: slow heads, slow bodies and slow readers, beside good traffic.

    python benchmarks/reliability/slow_clients.py --n 1400

Of `n` clients five in seven trickle a head, one trickles a body, one does not read its answer. Good
traffic must go on as before, and each of them be gone a second after its limit.
"""

from __future__ import annotations

from accounting import echo_server, on_loop
from beside import Attackers, beside
from budget import Budget
from outcome import Outcome
from standalone import standalone

from marserve.servers.exchange import DEFAULT_TIMEOUTS

MOST = 1400
PER_S = 100.0
_SLACK_S = 2.0
"""A second between two looks, and one for what the kernel still held for a reader that stopped."""


def run(budget: Budget) -> list[Outcome]:
    """Have `n` slow clients come at once."""
    count = budget.trials(MOST, 0.03)
    bodies = readers = max(1, count // 7)
    heads = max(1, count - bodies - readers)
    told: dict[str, list[float]] = {}
    with echo_server(has_journal=False, models=("echo", "slow")) as echo:
        echo.start(batch_size=8, default_workers_per_model=2, job_queue_size=5000)

        async def attack() -> None:
            attackers = await Attackers.start("slow", echo.http, heads, bodies, readers)
            try:
                told.update(await attackers.told(120.0))
            finally:
                await attackers.end()

        others = on_loop(beside(echo, PER_S, 5.0, attack))
    limits = DEFAULT_TIMEOUTS
    return [
        _gone("slow heads", told, "slow_head", limits.head_s),
        _gone("slow bodies", told, "slow_body", limits.body_grace_s),
        _gone("slow readers", told, "slow_reader", limits.write_s),
        others.outcome("slow clients (SEC-17)"),
    ]


def _gone(name: str, told: dict[str, list[float]], kind: str, limit_s: float) -> Outcome:
    longest_s, count = told.get(kind, (float("inf"), 0))
    return Outcome(
        property=f"{name} (SEC-17): gone",
        n=int(count),
        bar=f"≤ {limit_s:g} s + {_SLACK_S:g} s",
        figure=f"≤ {longest_s:.1f} s",
        passed=longest_s <= limit_s + _SLACK_S,
        unit="client",
    )


if __name__ == "__main__":
    standalone(run)
