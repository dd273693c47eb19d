"""I5: readiness is true while a request would be served, and false within a second of when not."""

import os
import signal
import time

import pytest


@pytest.fixture(scope="module")
def calm(shared_server):
    shared_server.pack("m", "version.py")
    shared_server.pack("naps", "naps.py")
    shared_server.pack("awaited", "awaited.py", config_file=str(asynchronous(shared_server)))
    shared_server.start(load_models="m.mar,naps.mar", default_workers_per_model=2)
    return shared_server


def asynchronous(server):
    path = server.root / "model-config.yaml"
    path.write_text("asyncCommunication: true\n")
    return path


def is_ready(server, model=""):
    return server.call("GET", "inference", f"/healthz/ready/{model}".rstrip("/")).status == 200


def lag_s(server, wanted):
    """From now until readiness says what it should."""
    began = time.monotonic()
    while is_ready(server) is not wanted:
        assert time.monotonic() - began < 20.0, f"readiness is not {wanted}"
        time.sleep(0.005)
    return time.monotonic() - began


def signal_all(pids, number):
    for pid in pids:
        assert pid > 0
        os.kill(pid, number)


def test_workers_that_are_killed_make_it_false_at_once_and_true_again_when_they_are_back(calm):
    signal_all(calm.pids("naps"), signal.SIGKILL)

    assert lag_s(calm, wanted=False) < 1.0
    calm.wait_until(lambda: is_ready(calm))
    assert calm.predict("naps").status == 200


def test_workers_that_hang_without_work_make_it_false_until_they_answer(calm):
    """SIGSTOP: nothing in the worker can run, and it has nothing to do that could be late."""
    calm.wait_until(lambda: len(calm.pids("m")) == 2 and min(calm.pids("m")) > 0)
    pids = calm.pids("m")
    log = calm.root / "logs" / "ts_log.log"
    noticed = log.read_text().count("does not answer")
    signal_all(pids[:1], signal.SIGSTOP)
    calm.wait_until(lambda: log.read_text().count("does not answer") > noticed)
    assert is_ready(calm)  # there is another one
    assert {calm.predict("m").json()["pid"] for _ in range(6)} == {pids[1]}  # who hangs gets none

    signal_all(pids[1:], signal.SIGSTOP)
    assert lag_s(calm, wanted=False) < 1.0
    live = calm.call("GET", "inference", "/healthz/live")
    assert live.status == 200

    signal_all(pids, signal.SIGCONT)
    assert lag_s(calm, wanted=True) < 1.0
    assert calm.pids("m") == pids
    assert calm.predict("m").status == 200


def test_an_asynchronous_worker_that_hangs_without_work_is_found_as_well(calm):
    assert calm.manage("POST", "/models?url=awaited.mar&initial_workers=1").status == 200
    [pid] = calm.pids("awaited")
    assert is_ready(calm, "awaited")

    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    calm.wait_until(lambda: not is_ready(calm, "awaited"))
    took_s = time.monotonic() - began
    os.kill(pid, signal.SIGCONT)
    calm.wait_until(lambda: is_ready(calm, "awaited"))

    assert took_s < 1.0
    assert calm.manage("DELETE", "/models/awaited").status == 200


def test_health_is_told_fast_while_everything_hangs(calm):
    """From what the server knows: no worker is asked for it."""
    calm.wait_until(lambda: is_ready(calm))
    pids = calm.pids("m")
    signal_all(pids, signal.SIGSTOP)
    try:
        took = []
        for path in ("/healthz/live", "/healthz/ready", "/ping") * 10:
            began = time.monotonic()
            calm.call("GET", "inference", path)
            took.append(time.monotonic() - began)
    finally:
        signal_all(pids, signal.SIGCONT)
    assert sorted(took)[len(took) // 2] < 0.05
