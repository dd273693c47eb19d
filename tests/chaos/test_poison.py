"""F09 in the commit tier: a request that kills workers costs its batch-mates nothing."""

from __future__ import annotations

import random

import pytest
import uvloop
from chaos import poison
from chaos.asks import Ask
from chaos.checker import MAX_ATTEMPTS, Allowed, check
from chaos.echo import EchoServer

SIZE = 8
FAILS = Allowed(statuses=(500,))
KILLS_SOMEBODY = ("segv", "abrt", "exit 7", "signal SIGILL")


@pytest.mark.parametrize("culprits", [1, 2])
def test_only_poison_gets_an_error_and_within_three_attempts(
    echo: EchoServer, culprits: int
) -> None:
    """Four batches of eight, each with `culprits` that kill their worker in another way."""
    echo.start(batch_size=SIZE, default_workers_per_model=1)
    echo.begin()

    uvloop.run(batches(echo, culprits))
    verdict = check(echo.evidence(1), {"poison": FAILS})

    assert verdict.is_clean, verdict.report()
    assert verdict.executions_most <= MAX_ATTEMPTS
    restarts = echo.counters().restarts
    assert restarts <= len(KILLS_SOMEBODY) * (1 + 2 * culprits)


def test_what_is_poison_only_in_company_is_answered_in_the_end(echo: EchoServer) -> None:
    echo.start(batch_size=SIZE, default_workers_per_model=1)
    echo.begin()
    crowd = [poison.INNOCENT] * (SIZE - 1)

    uvloop.run(poison.batch(echo, [Ask("shy", "batched:segv"), *crowd], workers=1))
    verdict = check(echo.evidence(1))

    assert verdict.is_clean, verdict.report()


async def batches(echo: EchoServer, culprits: int) -> None:
    chance = random.Random(culprits)
    for command in KILLS_SOMEBODY:
        asks = [poison.INNOCENT] * (SIZE - culprits) + [Ask("poison", command)] * culprits
        chance.shuffle(asks)
        await poison.batch(echo, asks, workers=1)
