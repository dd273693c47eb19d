"""Versions whose workers cannot load or keep dying: what clients and operators are told, and when.

Rows F34, F35 and I5 of the failure catalogue.
"""

from __future__ import annotations

import os
import signal
import time

import pytest


@pytest.fixture(scope="module")
def fickle(shared_server):
    """A model of six workers that load, until the switch says otherwise."""
    shared_server.pack("fickle", "fickle.py")
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("FICKLE_SWITCH", str(switch(shared_server)))
        shared_server.start(load_models="fickle.mar", default_workers_per_model=6)
    assert shared_server.problems == []
    return shared_server


def switch(server):
    return server.root / "switch"


def kill_all(server, how):
    """From now on workers fail as `how` says; all that are there end."""
    before = set(server.pids("fickle"))
    switch(server).write_text(how)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    server.wait_until(lambda: not before & set(server.pids("fickle")))


def described(server):
    return server.manage("GET", "/models/fickle").json()[0]


def readiness(server):
    return server.call("GET", "inference", "/healthz/ready")


@pytest.mark.parametrize("how", ["raise", "segv"])
def test_a_version_that_cannot_load_says_why_is_refused_fast_and_is_tried_slowly(fickle, how):
    """F34, F35: after three failures one worker is tried every 30 s; nobody queues for it."""
    kill_all(fickle, how)
    fickle.wait_until(lambda: described(fickle)["state"] == "LOAD_FAILED")
    # those that had begun when that was found out
    fickle.wait_until(lambda: not any(one["pid"] > 0 for one in described(fickle)["workers"]))

    started = time.monotonic()
    replies = [fickle.predict("fickle") for _ in range(20)]
    took_s = time.monotonic() - started
    about = described(fickle)
    exits = fickle.metrics()

    assert {reply.status for reply in replies} == {503}
    assert took_s / 20 < 0.05
    assert ("no such weights" if how == "raise" else "SIGSEGV") in about["lastError"]
    printed = "the weights are gone" if how == "raise" else "about to touch what is not there"
    assert printed in about["lastOutput"]
    assert len(about["lastOutput"]) <= 4096
    assert readiness(fickle).status == 503
    failing = (
        'marserve_version_failing{model_name="fickle",model_version="1.0",standing="load_failed"}'
    )
    assert exits[failing] == 1
    assert {worker["state"] for worker in about["workers"]} == {"BACKING_OFF"}

    switch(fickle).unlink()
    assert fickle.manage("PUT", "/models/fickle?min_worker=6&synchronous=true").status == 200
    assert fickle.predict("fickle").body == b"ok"
    assert readiness(fickle).status == 200
    assert "lastOutput" not in described(fickle)


def test_a_version_whose_workers_keep_dying_is_a_crash_loop_that_everybody_is_told_of(fickle):
    """Six deaths, no success: readiness is false, clients learn when the next worker is tried."""
    kill_all(fickle, "later")
    fickle.wait_until(lambda: described(fickle)["state"] == "CRASH_LOOP")
    is_ready = readiness(fickle).status
    fickle.wait_until(lambda: not any(one["pid"] > 0 for one in described(fickle)["workers"]))

    refused = fickle.predict("fickle")
    shown = fickle.metrics()

    assert is_ready == 503
    assert refused.status == 503
    assert 1 <= int(refused.headers["Retry-After"]) <= 30
    assert "they keep failing" in refused.json()["message"]
    assert fickle.call("GET", "inference", "/ping").status == 200  # as TorchServe, for a while
    failing = (
        'marserve_version_failing{model_name="fickle",model_version="1.0",standing="crash_loop"}'
    )
    assert shown[failing] == 1

    switch(fickle).unlink()
    assert fickle.manage("PUT", "/models/fickle?min_worker=6&synchronous=true").status == 200
    assert fickle.predict("fickle").body == b"ok"
