"""F07: handlers that return what no answer can be made of: lists of wrong lengths, no lists at all.

Hypothesis makes up the results. Alone, a result is an answer only if it is a list of one; in a
batch, a list of the wrong length is nobody's answer, and no row gets another's.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import warnings
from collections.abc import Iterator

from accounting import (
    Allowed,
    Ask,
    ClosedLoop,
    EchoServer,
    accounts,
    check,
    echo_server,
    on_loop,
    say,
)
from budget import Budget
from hypothesis import strategies as st
from hypothesis.errors import NonInteractiveExampleWarning
from outcome import Outcome
from standalone import standalone

RELEASE_S = 60.0
MOST = 5_000
BAD = (503,)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab \n"\\é', max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=3), inner),
    max_leaves=8,
)
IN_BATCHES = (
    Ask("innocent", weight=4),
    Ask("short", "short"),
    Ask("long", "long"),
    Ask("none", "none"),
    Ask("empty", "returns []"),
    Ask("text", 'returns "no list"'),
    Ask("mapping", 'returns {"a": 1}'),
)
_BAD_KINDS = ("short", "long", "none", "empty", "text", "mapping")


def run(budget: Budget) -> list[Outcome]:
    """Have `n` results checked, half of them alone, half of them in batches."""
    count = budget.trials(MOST, 0.01)
    alone = _results(count // 2, budget.seed)
    with echo_server(has_journal=False) as echo:
        # one worker, so that requests share batches; a lone row is a batch of one when all is quiet
        echo.start(batch_size=8, default_workers_per_model=1, job_queue_size=1000)
        echo.begin()
        before = echo.ready_pids()
        on_loop(_alone(echo, alone))
        on_loop(_in_batches(echo, count - len(alone), budget))
        allowed = {kind: Allowed(statuses=BAD) for kind in _BAD_KINDS}
        # a batch-mate of a bad result has no answer either, but never a wrong one
        allowed["innocent"] = Allowed(statuses=(200, *BAD))
        allowed |= {"is answer": Allowed(has_proof=False), "is none": Allowed(statuses=BAD)}
        verdict = check(echo.evidence(1), allowed)
        survived = before == echo.ready_pids()
        tried = sum(row.kind != "innocent" for row in echo.ledger.rows())
    say(f"the worker {'is the same' if survived else 'has changed'}")
    return [
        accounts("results of the wrong kind (F07)", verdict, tried, "result", also=("status",)),
        Outcome(
            property="results of the wrong kind (F07): workers that restart",
            n=tried,
            bar="0",
            figure="0" if survived else "1 or more",
            passed=survived,
            failures=0 if survived else 1,
            unit="result",
        ),
    ]


def _results(count: int, seed: int) -> list[object]:
    """What a handler may return for one row: `count` values, of which not all differ."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NonInteractiveExampleWarning)
        drawn = [_VALUES.example() for _ in range(min(count, 200))]
    return [drawn[(at * 7 + seed) % len(drawn)] for at in range(count)]


async def _alone(echo: EchoServer, values: list[object]) -> None:
    asks = [_ask(value) for value in values]
    loop = ClosedLoop(echo.ledger, echo.http, "echo", iter([*asks, asks[-1]]), limit=len(asks))
    await loop.start(1)
    await loop.used_up(300.0)
    await loop.finish()


def _ask(value: object) -> Ask:
    is_answer = isinstance(value, list) and len(value) == 1
    return Ask("is answer" if is_answer else "is none", f"returns {json.dumps(value)}")


async def _in_batches(echo: EchoServer, count: int, budget: Budget) -> None:
    asks: Iterator[Ask] = itertools.cycle([ask for ask in IN_BATCHES for _ in range(ask.weight)])
    first = len(echo.ledger)
    loop = ClosedLoop(echo.ledger, echo.http, "echo", asks)
    await loop.start(16)
    while not budget.is_over and len(echo.ledger) - first < count * 1.7:
        await asyncio.sleep(0.1)
    await loop.finish()


if __name__ == "__main__":
    standalone(run)
