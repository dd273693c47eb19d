"""F19: the version that a name means is switched under load; nothing fails, nothing is stale.

Two ways in turn: the default goes to and fro between two versions that stay, and a new version is
registered, made the default, and the old one unregistered. The history of answers is checked to be
that of one register: whoever asks after a 2xx gets the new version, and nobody goes back.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from accounting import Server, end, on_loop, percentile, say
from budget import Budget
from chaos.callers import OK
from chaos.switches import Switches, prepare, switch_under_load
from outcome import Outcome
from standalone import standalone

RELEASE_S = 300.0
MOST = 1000
_EACH_S = 0.15
_REPLACED = 10
"""Every so many-th switch replaces a version: that starts a worker and ends one."""


def run(budget: Budget) -> list[Outcome]:
    """Switch `n` times."""
    count = budget.trials(MOST, _EACH_S)
    replaced = max(1, count // _REPLACED)
    with tempfile.TemporaryDirectory(prefix="marserve-switch-") as folder:
        server = Server(Path(folder))
        try:
            prepare(server)
            found = on_loop(
                switch_under_load(
                    server,
                    lambda writer: itertools.chain(
                        writer.defaults(count - replaced), writer.replacements(replaced)
                    ),
                    quiet_s=2.0,
                    is_over=lambda: budget.is_over,
                )
            )
        finally:
            end(server)
    return [_failed(found), _stale(found), _slower(found)]


def _failed(found: Switches) -> Outcome:
    counts = found.books.counts
    bad = sum(count for outcome, count in counts.items() if outcome != OK)
    if bad or found.failures:
        say(f"{found.books} {found.failures[:3]}")
    return Outcome(
        property="version switches under load (F19): requests and changes that failed",
        n=len(found.writes) - 1,
        bar="0",
        figure=str(bad + len(found.failures)),
        passed=not bad and not found.failures,
        notes=f"{counts[OK]:,} requests over HTTP and gRPC",
        failures=bad + len(found.failures),
        unit="switch",
    )


def _stale(found: Switches) -> Outcome:
    stale = found.stale()
    for one in stale[:5]:
        say(one)
    return Outcome(
        property="version switches under load (F19): answers that one register could not give",
        n=len(found.writes) - 1,
        bar="0",
        figure=str(len(stale)),
        passed=not stale,
        notes=f"{len(found.books.answers):,} reads; linearizable with {len(found.writes):,} writes",
        failures=len(stale),
        unit="switch",
    )


def _slower(found: Switches) -> Outcome:
    far, near = found.latencies_s()
    usual, now = percentile(far, 0.99), percentile(near, 0.99)
    bound = max(1.2 * usual, usual + 0.005)
    return Outcome(
        property="version switches under load (F19): p99 of requests during a switch",
        n=len(near),
        bar="≤ 1.2 times that of the others, or 5 ms more",
        figure=f"{now * 1000:.1f} ms, of the others {usual * 1000:.1f} ms",
        passed=now <= bound,
        unit="request",
    )


if __name__ == "__main__":
    standalone(run)
