"""Good traffic beside an attack: how much slower it becomes, and whether anybody is refused."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accounting import PLAIN, EchoServer, OpenLoop, Row, cycle, percentile
from outcome import Outcome

FLOOR_S = 0.005
"""Differences below this are noise on shared machines."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What good clients saw, before and during the attack."""

    before_p99_s: float
    during_p99_s: float
    asked: int
    refused: int

    def outcome(self, name: str, factor: float = 1.2) -> Outcome:
        """Whether good traffic went on."""
        bound_s = max(self.before_p99_s * factor, self.before_p99_s + FLOOR_S)
        return Outcome(
            property=f"{name}: p99 of good traffic",
            n=self.asked,
            bar=f"≤ {factor:g} times before, none refused",
            figure=f"{self.before_p99_s * 1000:.1f} → {self.during_p99_s * 1000:.1f} ms"
            + (f", {self.refused} refused" if self.refused else ""),
            passed=self.during_p99_s <= bound_s and not self.refused,
            unit="request",
            notes=f"differences up to {FLOOR_S * 1000:g} ms are noise",
        )


async def beside(
    echo: EchoServer,
    per_s: float,
    quiet_s: float,
    attack: Callable[[], Awaitable[object]],
    prepare: Callable[[], Awaitable[object]] | None = None,
) -> Beside:
    """Ask `per_s` times a second, alone for `quiet_s`, then while `attack` goes on.

    What is asked while `prepare` goes on in between does not count.
    """
    load = OpenLoop(echo.ledger, echo.http, "echo", cycle((PLAIN,), 1), per_s)
    await load.start()
    await asyncio.sleep(1.0)
    start = len(echo.ledger)
    await asyncio.sleep(quiet_s)
    middle = after = len(echo.ledger)
    if prepare is not None:
        await prepare()
        after = len(echo.ledger)
    await attack()
    await load.finish()
    before, during = list(echo.ledger.rows(start))[: middle - start], list(echo.ledger.rows(after))
    return Beside(_p99(before), _p99(during), len(during), sum(row.status != 200 for row in during))


def _p99(rows: Iterable[Row]) -> float:
    return percentile([row.latency_s for row in rows if row.status == 200], 0.99)


def descriptors(pid: int) -> int:
    """How many the process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def cpu_s(pid: int) -> float:
    """What the process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def closed_within(began: float) -> float:
    """Seconds since then."""
    return time.monotonic() - began


class Attackers:
    """Processes of hostile clients (`attackers.py`)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, kind: str, address: tuple[str, int], *numbers: object) -> Attackers:
        """Begin; the numbers depend on the kind."""
        script = str(Path(__file__).parent / "attackers.py")
        arguments = [kind, address[0], str(address[1]), *map(str, numbers)]
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, script, *arguments, stdout=asyncio.subprocess.PIPE
            )
        )

    async def told(self, within_s: float) -> dict[str, Any]:
        """What they say next.

        Raises:
            TimeoutError: nothing, for so long.
        """
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), within_s)
        said: dict[str, Any] = json.loads(line) if line else {}
        return said

    async def end(self) -> None:
        """Nothing of them is left."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
