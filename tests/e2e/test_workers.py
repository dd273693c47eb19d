"""What becomes of requests when handlers raise, hang or die, and of the processes."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest


@pytest.fixture
def moody(server):
    server.pack("moody", "moody.py")
    return server


def _batch(server, crowd, tmp_path, bodies: list[str]):
    """Send `bodies` so that they make one batch; their replies."""
    gate = tmp_path / "gate"
    first = server.block("moody", gate)
    rest = crowd(lambda i: server.predict("moody", bodies[i].encode()), len(bodies))
    server.wait_until(lambda: server.pending("moody") == len(bodies))
    gate.touch()
    assert first.join()[0].status == 200
    return rest.join()


def test_a_handler_that_raises_harms_only_its_own_request(moody, crowd, tmp_path):
    moody.start(load_models="moody.mar", batch_size=8)
    pids = moody.pids("moody")

    replies = _batch(moody, crowd, tmp_path, ["a", "raise gravel", "b", "c"])

    assert [reply.status for reply in replies] == [200, 503, 200, 200]
    assert [reply.body for reply in replies if reply.status == 200] == [b"a", b"b", b"c"]
    assert replies[1].json() == {
        "code": 503,
        "type": "InternalServerException",
        "message": "Prediction failed: ValueError: cannot digest gravel",
    }
    assert moody.pids("moody") == pids
    log = moody.root / "logs" / "model_log.log"
    moody.wait_until(lambda: "ValueError: cannot digest gravel" in log.read_text())
    assert "Traceback (most recent call last):" in log.read_text()


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("short", 503, "number of batch response mismatched"),
        ("none", 503, "must return a list"),
        ("set", 503, "Unsupported model output data type"),
        ("memory", 507, "Out of resources"),
        ("big 2000", 500, "max_response_size"),
        ("mute", 503, "Mute"),
        ("surrogate", 503, "half a letter: ?"),
        ("status 99", 503, "not 99"),
    ],
)
def test_a_result_that_cannot_be_used_is_a_clear_error(
    moody, crowd, tmp_path, body, status, message
):
    moody.start(load_models="moody.mar", batch_size=4, max_response_size=1000)

    replies = _batch(moody, crowd, tmp_path, ["a", body, "b"])

    assert [reply.status for reply in replies] == [200, status, 200]
    assert [replies[0].body, replies[2].body] == [b"a", b"b"]
    assert message in replies[1].json()["message"]


def test_a_worker_that_is_killed_in_the_middle_of_a_batch_costs_nobody_an_answer(
    moody, crowd, tmp_path
):
    moody.start(load_models="moody.mar", batch_size=8)
    victim = moody.pids("moody")[0]

    replies = _batch(moody, crowd, tmp_path, ["a", f"die-once {tmp_path / 'died'}", "b"])

    assert [reply.status for reply in replies] == [200, 200, 200]
    assert (tmp_path / "died").exists()
    assert moody.pids("moody")[0] != victim
    assert moody.workers("moody")[0]["restarts"] == 1
    assert "SIGKILL" in moody.workers("moody")[0]["lastError"]


def test_a_request_that_kills_every_worker_gets_an_error_and_its_mates_their_answers(
    moody, crowd, tmp_path
):
    moody.start(load_models="moody.mar", batch_size=8)

    replies = _batch(moody, crowd, tmp_path, ["a", "exit 3", "b"])

    assert [reply.status for reply in replies] == [200, 500, 200]
    assert "Worker died." in replies[1].json()["message"]
    assert "exited with code 3" in replies[1].json()["message"]
    moody.wait_until(lambda: moody.workers("moody")[0]["status"] == "READY")
    assert moody.predict("moody", b"still there").body == b"still there"


def test_idle_workers_that_are_killed_come_back(moody):
    moody.start(load_models="moody.mar", default_workers_per_model=2)
    before = moody.pids("moody")

    for pid in before:
        os.kill(pid, signal.SIGKILL)

    moody.wait_until(lambda: not set(before) & set(moody.pids("moody")))
    moody.wait_until(lambda: [w["status"] for w in moody.workers("moody")] == ["READY"] * 2)
    assert moody.predict("moody").status == 200
    assert sorted(w["id"] for w in moody.workers("moody")) == ["9000", "9001"]


def test_a_worker_that_hangs_is_answered_for_and_replaced(moody):
    moody.start(load_models="moody.mar", default_response_timeout=1)
    victim = moody.pids("moody")[0]
    started = time.monotonic()

    reply = moody.predict("moody", b"sleep 60")

    assert reply.status == 504
    assert "response_timeout" in reply.json()["message"]
    assert time.monotonic() - started < 10
    moody.wait_until(lambda: not psutil.pid_exists(victim))
    assert moody.predict("moody", b"next").body == b"next"


def test_a_client_that_hangs_up_never_touches_a_worker(moody, tmp_path):
    moody.start(load_models="moody.mar")
    pids = moody.pids("moody")
    gate, marker = tmp_path / "gate", tmp_path / "ran"
    running, queued = moody.connect(), moody.connect()
    running.request("POST", "/predictions/moody", f"wait {gate}".encode())
    moody.wait_until(gate.with_name("gate.started").exists)
    queued.request("POST", "/predictions/moody", f"die-once {marker}".encode())
    moody.wait_until(lambda: moody.pending("moody") == 1)

    running.close()
    queued.close()
    moody.wait_until(lambda: moody.pending("moody") == 0)
    gate.touch()

    assert moody.predict("moody", b"alive").body == b"alive"
    assert moody.pids("moody") == pids
    assert moody.workers("moody")[0]["restarts"] == 0
    assert not marker.exists(), "a request that nobody waited for was executed"


def test_a_request_that_nobody_waits_for_does_not_hold_up_an_unregistration(moody, tmp_path):
    moody.start(load_models="moody.mar")
    gate = tmp_path / "gate"
    running = moody.block("moody", gate)
    queued = moody.connect()
    queued.request("POST", "/predictions/moody", b"never mind")
    moody.wait_until(lambda: moody.pending("moody") == 1)
    depth = 'marserve_queue_depth{model_name="moody",model_version="1.0"}'
    assert moody.metrics()[depth] == 1
    queued.close()
    gate.touch()

    started = time.monotonic()
    reply = moody.manage("DELETE", "/models/moody")

    assert reply.status == 200
    assert time.monotonic() - started < 20
    assert running.join()[0].status == 200


def test_a_full_queue_refuses_with_the_time_to_come_back(moody, crowd, tmp_path):
    moody.start(load_models="moody.mar", job_queue_size=2)
    gate = tmp_path / "gate"
    running = moody.block("moody", gate)
    waiting = crowd(lambda i: moody.predict("moody", b"w"), 2)
    moody.wait_until(lambda: moody.pending("moody") == 2)

    refused = moody.predict("moody", b"one too many")

    gate.touch()
    assert refused.status == 503
    assert refused.json()["type"] == "ServiceUnavailableException"
    assert "job_queue_size" in refused.json()["message"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 30
    assert [r.status for r in running.join() + waiting.join()] == [200] * 3


def test_unloading_a_model_finishes_its_work_and_ends_its_process(moody, crowd, tmp_path):
    moody.start(load_models="moody.mar")
    pid = moody.pids("moody")[0]
    gate = tmp_path / "gate"
    running = moody.block("moody", gate)
    waiting = crowd(lambda _: moody.predict("moody", b"accepted"), 1)
    moody.wait_until(lambda: moody.pending("moody") == 1)

    unregistering = crowd(lambda _: moody.manage("DELETE", "/models/moody"), 1)
    moody.wait_until(lambda: moody.manage("GET", "/models/moody").status == 404)
    refused = moody.predict("moody")
    gate.touch()

    assert [r.status for r in running.join() + waiting.join()] == [200, 200]
    assert refused.status == 404
    assert unregistering.join()[0].json() == {"status": 'Model "moody" unregistered'}
    assert not psutil.pid_exists(pid)


def test_sigterm_answers_what_was_accepted_and_leaves_no_process(moody, crowd, tmp_path):
    moody.start(load_models="moody.mar", default_workers_per_model=2)
    gate = tmp_path / "gate"
    running = [moody.block("moody", gate), moody.block("moody", gate)]
    children = moody.children()

    moody.process.send_signal(signal.SIGTERM)
    moody.wait_until(lambda: not _accepts(moody))
    gate.touch()

    assert [one.join()[0].status for one in running] == [200, 200]
    assert moody.wait() == 0
    assert [child for child in children if child.is_running()] == []


def test_a_server_whose_model_still_loads_answers_and_can_be_stopped(server, crowd):
    server.pack("slow", "slow_load.py")
    starting = crowd(lambda _: server.start(load_models="slow.mar"), 1)
    log = server.root / "logs" / "ts_log.log"
    server.wait_until(lambda: log.exists() and "Management API bind to" in log.read_text())
    for port in ("inference", "management"):
        line = next(x for x in log.read_text().splitlines() if f"{port.capitalize()} API" in x)
        server.addresses[port] = line.rsplit(" ", 1)[1]

    described = server.manage("GET", "/models/slow").json()[0]
    ping = server.call("GET", "inference", "/ping")
    assert server.stop() == 0

    starting.join()
    assert described["state"] == "LOADING"
    assert [worker["state"] for worker in described["workers"]] == ["STARTING"]
    assert ping.status == 200


def _accepts(server) -> bool:
    try:
        server.raw().close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_server_that_is_killed_leaves_no_process(moody):
    moody.start(load_models="moody.mar", default_workers_per_model=2)
    children = moody.children()
    assert len(children) == 3

    moody.stop(signal.SIGKILL)

    moody.wait_until(lambda: not any(child.is_running() for child in children))
