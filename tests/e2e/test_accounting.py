"""Every accepted request gets exactly one answer, its own, whatever happens to workers."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading

import psutil

KILLS = 25
CLIENTS = 8


def test_workers_killed_at_random_moments_cost_nobody_an_answer(server, crowd):
    server.pack("echo", "echo.py")
    server.start(load_models="echo.mar", batch_size=4, default_workers_per_model=3)
    stop = threading.Event()
    sent = [0] * CLIENTS
    wrong: list[str] = []

    def client(number: int) -> None:
        connection = server.connect()
        while not stop.is_set():
            body = f"{number}-{sent[number]}"
            connection.request("POST", "/predictions/echo", body)
            response = connection.getresponse()
            answer = response.read().decode()
            if response.status != 200 or f'"body": "{body}"' not in answer:
                wrong.append(f"{body}: {response.status} {answer}")
                connection.close()
            sent[number] += 1
        connection.close()

    clients = crowd(client, CLIENTS)
    chance = random.Random(7)
    killed = 0
    while killed < KILLS and not wrong:
        ready = [w["pid"] for w in server.workers("echo") if w["status"] == "READY"]
        before = sum(sent)
        if ready:
            with contextlib.suppress(ProcessLookupError):  # killed before, and not yet missed
                os.kill(chance.choice(ready), signal.SIGKILL)
                killed += 1
        server.wait_until(lambda: sum(sent) > before + 5)  # noqa: B023  asked at once
    stop.set()
    clients.join()

    assert wrong == []
    assert killed == KILLS
    assert sum(sent) > KILLS * 5
    total = sum(
        value
        for name, value in server.metrics().items()
        if name.startswith('marserve_requests_total{code="200",model_name="echo"')
    )
    assert total == sum(sent)


def test_a_killed_zygote_takes_its_workers_along_and_all_come_back(server):
    server.pack("echo", "echo.py")
    server.start(load_models="echo.mar", default_workers_per_model=2)
    before = server.pids("echo")
    zygote = psutil.Process(before[0]).parent()
    assert zygote is not None

    zygote.kill()

    assert server.predict("echo", b"still").json()["body"] == "still"
    server.wait_until(lambda: not set(before) & set(server.pids("echo")))
    server.wait_until(lambda: [w["status"] for w in server.workers("echo")] == ["READY"] * 2)
