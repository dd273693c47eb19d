"""Overload: what a server does with more requests than it can serve (F23, F35, F41).

    python benchmarks/reliability/overload.py [--seconds 480]

A handler that takes a known time per batch without using the CPU, so that two cores carry server
and load. Capacity is measured first; all loads are multiples of it, sent on schedule (open loop).
A bar for a latency is twice what pings of the idle server take in the same run, where that is more:
on a machine with other work, that is what waiting for a processor costs. Each of the eight loads
gets an eighth of the time, at least three seconds; with `--n`, so many seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import uvloop
from budget import Budget
from open_loop import Run, Sent, Source, quantile, request
from outcome import Outcome
from standalone import standalone

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "harness"))

from running_server import Server, end  # noqa: E402

BATCH, BATCH_MS, DEADLINE_MS = 4, 40, 500
TARGET = "/predictions/timed"
PROPERTY = "overload: "


@dataclass
class Bench:
    """A running server and what is known of it."""

    server: Server
    expired_log: Path
    seconds: float
    capacity_per_s: float = 0.0
    quiet_s: tuple[float, ...] = ()
    """What pings of the idle server take."""

    def run(self, **options: Any) -> Run:
        """A new load."""
        host, port = self.server.address("inference")
        return Run(host, port, **options)

    def rss_bytes(self) -> int:
        """Of the server itself, without its workers."""
        assert self.server.process is not None
        return psutil.Process(self.server.process.pid).memory_info().rss

    def expired(self) -> int:
        """How many requests a handler got although it was too late."""
        if not self.expired_log.exists():
            return 0
        return sum(int(line) for line in self.expired_log.read_text().split())


@contextmanager
def bench(seconds: float) -> Any:
    """A server with the model `timed`, with one that cannot load, and one that is quick."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        server, log = Server(root), root / "expired"
        yaml = root / "model-config.yaml"
        yaml.write_text(
            json.dumps(
                {
                    "minWorkers": 1,
                    "maxWorkers": 1,
                    "batchSize": BATCH,
                    "maxBatchDelay": 0,
                    "handler": {"batch_ms": BATCH_MS, "expired_log": str(log)},
                }
            )
        )
        handler = str(Path(__file__).with_name("timed_handler.py"))
        server.pack("timed", handler, config_file=str(yaml))
        server.pack("broken", "broken_initialize.py")
        yaml.write_text(json.dumps({"minWorkers": 1, "handler": {"batch_ms": 0}}))
        server.pack("large", handler, config_file=str(yaml))
        try:
            server.start(
                load_models="timed.mar,broken.mar,large.mar",
                max_request_size=32 * 1024 * 1024,
            )
            yield Bench(server, log, seconds)
        finally:
            end(server)


async def management_latencies(server: Server, until: Callable[[], bool]) -> list[float]:
    """How long management calls take, one every 50 ms."""
    taken = []
    while not until():
        began = time.monotonic()
        reply = await asyncio.to_thread(server.manage, "GET", "/models/timed")
        assert reply.status == 200
        taken.append(time.monotonic() - began)
        await asyncio.sleep(0.05)
    return taken


def told(done: list[Sent]) -> str:
    """How many had which end."""
    ends: dict[str, int] = {}
    for one in done:
        key = one.reason or str(one.status)
        ends[key] = ends.get(key, 0) + 1
    return " ".join(f"{key}={count}" for key, count in sorted(ends.items()))


PING = Source("ping", b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n", 200.0)


async def quiet(one: Bench) -> None:
    """Ask an idle server whether it is well, to know what the machine adds."""
    one.quiet_s = tuple(o.latency_s for o in await one.run().go([PING], 2.0))


async def capacity(one: Bench) -> list[Outcome]:
    """What the model can do: as many clients as fill its batches, each asking again at once."""
    await quiet(one)
    raw = request(TARGET)
    one.capacity_per_s = await one.run().closed(raw, 6 * BATCH, max(2.0, min(5.0, one.seconds / 3)))
    ideal_per_s = BATCH * 1000.0 / BATCH_MS
    return [
        Outcome(
            PROPERTY + "capacity",
            1,
            "at least 0.8 of what the handler's sleep allows",
            f"{one.capacity_per_s:.0f}/s of {ideal_per_s:.0f}/s",
            one.capacity_per_s >= 0.8 * ideal_per_s,
        )
    ]


def overload(times: float, least: float) -> Callable[[Bench], Awaitable[list[Outcome]]]:
    """The load is `times` the capacity; answers in time are at least `least` of it."""

    async def scenario(one: Bench) -> list[Outcome]:
        run, before_bytes, before = one.run(), one.rss_bytes(), one.expired()
        raw = request(TARGET, X_Request_Timeout_Ms=DEADLINE_MS)
        is_over = False
        probe = asyncio.create_task(management_latencies(one.server, lambda: is_over))
        done = await run.go([Source("all", raw, times * one.capacity_per_s)], one.seconds)
        grown_bytes = one.rss_bytes() - before_bytes
        is_over = True
        managed = await probe
        good = [o for o in done if o.status == 200 and o.latency_s <= DEADLINE_MS / 1000.0]
        accepted = [o.latency_s for o in done if o.status == 200]
        at_door = [o.latency_s for o in done if o.reason in ("queue_full", "deadline_unreachable")]
        goodput = len(good) / one.seconds / one.capacity_per_s
        lag_ms = 1000.0 * quantile(run.lag_s, 0.99)
        notes = f"[{told(done)}; the client itself was {lag_ms:.1f} ms late at its p99]"
        name = f"{PROPERTY}{times:g} x"
        return [
            Outcome(
                f"{name} goodput", len(done), f">= {least:.0%}", f"{goodput:.1%}",
                goodput >= least, notes,
            ),
            _slowest(f"{name} answers", accepted, DEADLINE_MS, one),
            _slowest(f"{name} refusals", at_door, 10.0, one),
            _slowest(f"{name} management", managed, 100.0, one),
            Outcome(
                f"{name} memory growth", 1, "<= 282 MiB", f"{grown_bytes / 2**20:.1f} MiB",
                grown_bytes <= 1.1 * 256 * 2**20,
            ),
            Outcome(
                f"{name} expired work that was run", len(done), "0", str(one.expired() - before),
                one.expired() == before,
            ),
        ]  # fmt: skip

    return scenario


def _slowest(
    name: str, latencies_s: list[float], bar_ms: float, one: Bench, share: float = 0.99
) -> Outcome:
    took_ms = 1000.0 * quantile(latencies_s, share)
    quiet_ms = 1000.0 * quantile(list(one.quiet_s), share)
    return Outcome(
        f"{name} p{100 * share:g}",
        len(latencies_s),
        f"<= {bar_ms:g} ms, or twice what an idle server takes",
        f"{took_ms:.1f} ms",
        took_ms <= max(bar_ms, 2.0 * quiet_ms),
        f"pings of the idle server {quiet_ms:.1f} ms",
    )


async def priorities(one: Bench) -> list[Outcome]:
    """A third of the capacity is urgent, and three times of it are not."""
    high = request(TARGET, X_Priority="high", X_Request_Timeout_Ms=DEADLINE_MS)
    low = request(TARGET, X_Priority="low", X_Request_Timeout_Ms=DEADLINE_MS)
    sources = [
        Source("high", high, one.capacity_per_s / 3),
        Source("low", low, 3 * one.capacity_per_s),
    ]
    done = await one.run().go(sources, one.seconds)
    return [_success("urgent requests among three times too many", done, "high", 0.999)]


def _success(name: str, done: list[Sent], group: str, least: float) -> Outcome:
    of_group = [o for o in done if o.group == group]
    share = sum(o.status == 200 for o in of_group) / max(1, len(of_group))
    others = told([o for o in done if o.group != group])
    notes = f"[{told(of_group)}; others {others}]"
    return Outcome(
        PROPERTY + name, len(of_group), f">= {least:.1%}", f"{share:.2%}", share >= least, notes
    )


async def fairness(one: Bench) -> list[Outcome]:
    """Nine clients ask for 5 % of the capacity each, and one for five times all of it."""
    modest = [
        Source("modest", request(TARGET, X_Client_Id=f"modest-{n}"), 0.05 * one.capacity_per_s)
        for n in range(9)
    ]
    outcomes = []
    for name, headers in (
        ("", {}),
        (" with deadlines", {"X_Request_Timeout_Ms": DEADLINE_MS}),
    ):
        sources = [
            Source(
                f"modest-{n}",
                request(TARGET, X_Client_Id=f"modest-{n}", **headers),
                source.per_s,
            )
            for n, source in enumerate(modest)
        ]
        greedy = request(TARGET, X_Client_Id="greedy", **headers)
        sources.append(Source("greedy", greedy, 5 * one.capacity_per_s))
        done = await one.run().go(sources, one.seconds)
        for sent in done:
            sent.group = sent.group.partition("-")[0]
        outcomes.append(_success(f"modest clients beside a greedy one{name}", done, "modest", 0.99))
    return outcomes


async def metastability(one: Bench) -> list[Outcome]:
    """0.9 of the capacity, clients that retry three times at once; for 5 s five times as much."""
    burst_s, calm_s, after_s = min(5.0, one.seconds / 2), 3.0, 14.0
    raw = request(TARGET, X_Request_Timeout_Ms=DEADLINE_MS)
    sources = [
        Source("steady", raw, 0.9 * one.capacity_per_s),
        Source("burst", raw, 5 * one.capacity_per_s, calm_s, calm_s + burst_s),
    ]
    run = one.run(retries=3)
    done = await run.go(sources, calm_s + burst_s + after_s)
    seconds: dict[int, list[bool]] = {}
    for sent in done:
        if sent.group == "steady" and (sent.status == 200 or sent.attempt > 3):
            seconds.setdefault(int(sent.due - calm_s - burst_s), []).append(sent.status == 200)
    share = {when: sum(ends) / len(ends) for when, ends in seconds.items() if when >= 0}
    bad = [when for when, good in share.items() if good < 0.95]
    recovered_s = max(bad, default=-1) + 1
    worst = min(good for when, good in share.items() if when >= 10)
    return [
        Outcome(
            PROPERTY + "back to 95 % after a burst with retries",
            len(done),
            "within 10 s",
            f"within {recovered_s} s; worst second after that {worst:.1%}",
            recovered_s <= 10,
        )
    ]


async def no_workers(one: Bench) -> list[Outcome]:
    """F35: a model whose workers cannot load refuses at once."""
    raw = request("/predictions/broken")
    done = await one.run().go([Source("all", raw, 200.0)], min(5.0, one.seconds))
    refused = [o.latency_s for o in done if o.reason == "no_workers"]
    assert len(refused) == len(done)
    return [_slowest(PROPERTY + "a model without workers", refused, 10.0, one)]


async def large_bodies(one: Bench) -> list[Outcome]:
    """F41: how late are the answers to pings beside 10 MiB of JSON at a time."""
    body = json.dumps({"data": "x" * (10 * 2**20)}).encode()
    large = request("/predictions/large", body, Content_Type="application/json")
    done = await one.run().go([Source("large", large, 4.0), PING], one.seconds)
    pings = [o.latency_s for o in done if o.group == "ping"]
    answered = [o.latency_s for o in done if o.group == "large" and o.status == 200]
    assert answered
    name = f"{PROPERTY}pings beside {len(answered)} bodies of 10 MiB"
    return [_slowest(name, pings, 50.0, one, 0.999)]


SCENARIOS: dict[str, Callable[[Bench], Awaitable[list[Outcome]]]] = {
    "2x": overload(2.0, 0.95),
    "5x": overload(5.0, 0.90),
    "priorities": priorities,
    "fairness": fairness,
    "metastability": metastability,
    "no_workers": no_workers,
    "large_bodies": large_bodies,
}


def run(budget: Budget) -> list[Outcome]:
    """All properties, each scenario under load for a share of the time."""
    seconds = float(budget.n or max(3.0, budget.time_s / (len(SCENARIOS) + 1)))
    outcomes: list[Outcome] = []

    async def all_of_them(one: Bench) -> None:
        outcomes.extend(await capacity(one))
        for scenario in SCENARIOS.values():
            outcomes.extend(await scenario(one))
            await asyncio.sleep(1.0)

    with bench(seconds) as one, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(all_of_them(one))
    return outcomes


if __name__ == "__main__":
    standalone(run)
