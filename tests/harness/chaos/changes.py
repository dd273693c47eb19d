"""Management under load: models that come and go, workers that become more and fewer."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
from running_server import Server

from chaos.leaks import Holdings, holdings


@dataclass(slots=True)
class Tally:
    """Statuses of what clients asked for, and of what changed."""

    requests: Counter[int] = field(default_factory=Counter)
    changes: Counter[int] = field(default_factory=Counter)
    words: dict[int, bytes] = field(default_factory=dict)
    """The first body of each status other than 200."""

    def server_errors(self) -> dict[int, int]:
        """Requests that the server could not answer."""
        return {status: n for status, n in self.requests.items() if status >= 500}


def ask_meanwhile(
    server: Server, name: str, work: Callable[[Tally], None], clients: int = 4
) -> Tally:
    """Do the work while clients ask for this model, each over a connection that it keeps."""
    tally, over = Tally(), threading.Event()

    def client() -> None:
        connection = server.connect()
        while not over.is_set():
            connection.request("POST", f"/predictions/{name}", b"x")
            response = connection.getresponse()
            body = response.read()
            tally.requests[response.status] += 1
            if response.status != 200:
                tally.words.setdefault(response.status, body)
                time.sleep(0.005)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        work(tally)
    finally:
        over.set()
        for thread in threads:
            thread.join(60.0)
    return tally


def cycles(server: Server, url: str, name: str, count: int, tally: Tally) -> None:
    """Register and unregister a model again and again."""
    for _ in range(count):
        for method, target in (
            ("POST", f"/models?url={url}&initial_workers=1"),
            ("DELETE", f"/models/{name}"),
        ):
            tally.changes[server.manage(method, target).status] += 1


def scalings(
    server: Server, name: str, count: int, most: int, rng: random.Random, tally: Tally
) -> None:
    """Have another number of workers again and again, some of the times waiting for them."""
    for _ in range(count):
        target = f"/models/{name}?min_worker={rng.randint(0, most)}"
        if rng.random() < 0.3:
            target += "&synchronous=true"
        tally.changes[server.manage("PUT", target).status] += 1
        time.sleep(rng.random() * 0.05)


def quarrel(server: Server, url: str, name: str, threads: int, each: int, tally: Tally) -> None:
    """Many operators load and unload one model at the same time, none knowing of the others."""

    def operator(number: int) -> None:
        rng = random.Random(number)
        for _ in range(each):
            if rng.random() < 0.5:
                reply = server.manage("POST", f"/models?url={url}&initial_workers=1")
            else:
                reply = server.manage("DELETE", f"/models/{name}")
            tally.changes[reply.status] += 1
            tally.words.setdefault(reply.status, reply.body)

    crowd = [threading.Thread(target=operator, args=(number,)) for number in range(threads)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()


def held(server: Server) -> Holdings:
    """What the server holds now."""
    assert server.process is not None
    return holdings(server.process.pid, server.root / "cache")


def left_over(server: Server, before: Holdings) -> dict[str, str]:
    """What it holds now and did not hold then; shared memory belongs to others as well."""
    more = held(server).more_than(before)
    more.pop("shared memory", None)
    return more


def rss_bytes(server: Server) -> int:
    """Memory of the server process alone."""
    assert server.process is not None
    return int(psutil.Process(server.process.pid).memory_info().rss)
