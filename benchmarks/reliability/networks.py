"""F25: clients behind bad networks: slow, sliced, cut at any byte, half open, swallowed.

Each goes through a relay with weather of its own. Whatever becomes of them, clients with a good
network are answered, and the server holds nothing of the others afterwards.
"""

from __future__ import annotations

import random

from accounting import (
    BROKEN,
    GONE,
    PLAIN,
    Allowed,
    Ask,
    ClosedLoop,
    EchoServer,
    Relay,
    Weather,
    accounts,
    check,
    cycle,
    echo_server,
    on_loop,
    relay,
    say,
)
from budget import Budget
from outcome import Outcome
from standalone import standalone

RELEASE_S = 300.0
MOST = 5_000
WORKERS = 2
ASKS = (
    Ask("behind a bad network", weight=4),
    Ask("behind a bad network", ballast_bytes=60_000),
    Ask("behind a bad network", "big 60000"),
)
# what is cut off has no answer, or a part of one, and may have run
ALLOWED = {"behind a bad network": Allowed(statuses=(200, BROKEN, GONE))}
_CLIENTS = 8
_ROUND_S = 0.4


def run(budget: Budget) -> list[Outcome]:
    """Have `n` requests go through bad networks."""
    count = budget.trials(MOST, 0.06)
    with echo_server() as echo:
        echo.start(batch_size=8, default_workers_per_model=WORKERS)
        echo.begin()
        cuts = on_loop(_load(echo, count, budget))
        verdict = check(echo.evidence(WORKERS), ALLOWED)
        rows = [row for row in echo.ledger.rows() if row.kind == "behind a bad network"]
    served = sum(row.status == 200 for row in rows)
    return [
        accounts(
            "clients behind bad networks (F25)",
            verdict,
            len(rows),
            "request",
            also=("status",),
            notes=f"{cuts:,} connections cut, {served:,} of these requests answered all the same",
        )
    ]


async def _load(echo: EchoServer, count: int, budget: Budget) -> int:
    others = ClosedLoop(echo.ledger, echo.http, "echo", cycle((PLAIN,), budget.seed), pause_s=0.01)
    await others.start(4)
    chance, made, cuts = random.Random(budget.seed), 0, 0
    while made < count and not budget.is_over:
        bad, few = _weather(chance), _CLIENTS
        up, down = (bad, relay.CLEAR) if chance.random() < 0.5 else (relay.CLEAR, bad)
        async with Relay(echo.http, up, down, seed=chance.randrange(1 << 30)) as network:
            asks = cycle(ASKS, chance.randrange(1 << 30))
            first = len(echo.ledger)
            loop = ClosedLoop(
                echo.ledger, network.address, "echo", asks, pause_s=0.005, limit=few * 4
            )
            await loop.start(few)
            await loop.give_up(_ROUND_S)
            made += sum(row.kind == "behind a bad network" for row in echo.ledger.rows(start=first))
            cuts += network.cuts
        if made // 500 != (made - few) // 500:
            say(f"{made:,} of {count:,} requests, {cuts:,} cuts")
    await others.finish()
    return cuts


def _weather(chance: random.Random) -> Weather:
    cut = chance.choice(list(relay.Cut))
    return chance.choice(
        (
            Weather(latency_s=0.01, jitter_s=0.03),
            Weather(slice_bytes=chance.choice((1, 3, 100)), bytes_per_s=50_000.0),
            Weather(cut_after_bytes=chance.randrange(1, 400), cut=cut),
            Weather(cut_after_bytes=chance.randrange(1, 60_000), cut=cut),
            Weather(swallows=True),
        )
    )


if __name__ == "__main__":
    standalone(run)
