"""A model whose versions change while it is asked: who writes, and what became of the requests."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from running_server import Server

from chaos.callers import Books, Callers
from chaos.history import Read, Write, violations

NAME = "m"
_NEAR_S = 0.05


@dataclass(slots=True)
class Switches:
    """What one run has left."""

    books: Books
    writes: list[Write]
    failures: list[str] = field(default_factory=list)
    """Of changes."""

    def stale(self) -> list[str]:
        """Answers that do not fit the changes."""
        reads = [Read(sent, got, _version(body)) for sent, got, body in self.books.answers]
        return [str(one) for one in violations(self.writes, reads)]

    def latencies_s(self) -> tuple[list[float], list[float]]:
        """Of requests in quiet moments, and of those that were under way during a change."""
        near: list[float] = []
        far: list[float] = []
        moments = iter(self.writes[1:])
        current = next(moments, None)
        for sent_s, took_s in sorted(self.books.latencies_s):
            while current is not None and (current.acked_s or 0.0) + _NEAR_S < sent_s:
                current = next(moments, None)
            is_near = current is not None and sent_s + took_s > current.begun_s
            (near if is_near else far).append(took_s)
        return sorted(far), sorted(near)


def prepare(server: Server, workers: int = 1) -> None:
    """Start it with two versions of one model, 1.0 the default."""
    for version in ("1.0", "2.0"):
        server.pack(NAME, "version.py", version, file_name=f"m{version}.mar")
    server.start(load_models="m1.0.mar", default_workers_per_model=workers)


class Writer:
    """Changes what the name means, one change after the other."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.failures: list[str] = []
        self.writes = [Write(0.0, 0.0, "1.0")]

    def defaults(self, count: int) -> Iterator[Callable[[], None]]:
        """Both versions stay; the default goes to and fro."""
        yield lambda: self._register("2.0")
        for number in range(count):
            version = ("2.0", "1.0")[number % 2]
            yield lambda version=version: self._make_default(version)  # type: ignore[misc]

    def replacements(self, count: int) -> Iterator[Callable[[], None]]:
        """The other version is registered, made the default, and the old one goes."""
        new, old = "2.0", "1.0"
        if self.writes[-1].value == "2.0":
            new, old = old, new
        yield lambda: self._unregister(new)
        for _ in range(count):
            yield lambda new=new: self._register(new)  # type: ignore[misc]
            yield lambda new=new: self._make_default(new)  # type: ignore[misc]
            yield lambda old=old: self._unregister(old)  # type: ignore[misc]
            new, old = old, new

    def _register(self, version: str) -> None:
        self._change("POST", f"/models?url=m{version}.mar&initial_workers=1")

    def _unregister(self, version: str) -> None:
        self._change("DELETE", f"/models/{NAME}/{version}")

    def _make_default(self, version: str) -> None:
        began_s = time.monotonic()
        is_done = self._change("PUT", f"/models/{NAME}/{version}/set-default")
        self.writes.append(Write(began_s, time.monotonic() if is_done else None, version))

    def _change(self, method: str, target: str) -> bool:
        reply = self._server.manage(method, target)
        if reply.status != 200:
            self.failures.append(f"{method} {target}: {reply.status} {reply.body[:200]!r}")
        return reply.status == 200


async def switch_under_load(
    server: Server,
    changes: Callable[[Writer], Iterator[Callable[[], None]]],
    *,
    quiet_s: float = 0.2,
    is_over: Callable[[], bool] = lambda: False,
) -> Switches:
    """Carry out the changes while clients ask for the bare name."""
    callers = Callers(
        server.address("inference"),
        server.addresses["grpc_inference"].removeprefix("grpc://"),
        f"/predictions/{NAME}",
        NAME,
        ends_with_the_server=False,
        keeps_answers=True,
        pause_s=0.004,
    )
    await callers.start(fresh=2, kept=6, calls=2)
    await asyncio.sleep(quiet_s)
    writer = Writer(server)
    for change in changes(writer):
        if is_over():
            break
        await asyncio.to_thread(change)
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    return Switches(await callers.finish(), writer.writes, writer.failures)


def _version(body: bytes) -> str:
    return str(json.loads(body)["version"])
