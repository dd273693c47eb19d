"""Versions beside each other, live management, and what a restart brings back."""

from __future__ import annotations

import json
import signal
import subprocess

import psutil
import pytest


@pytest.fixture
def resnet(server):
    server.pack("resnet50", "version.py", "1.0")
    server.pack("resnet50", "version.py", "2.0", file_name="resnet50_v2.mar")
    server.pack("bad", "broken_import.py", "4.0")
    server.pack("sour", "broken_initialize.py", "3.0", file_name="resnet50_v3.mar")
    server.start(load_models="resnet50.mar")
    return server


def _curl(*arguments: str) -> dict:
    answer = subprocess.run(["curl", "-sS", *arguments], capture_output=True, check=True)
    return json.loads(answer.stdout)


def _version(server, target: str = "resnet50") -> str:
    return server.predict(target).json()["version"]


def test_the_management_calls_of_a_torchserve_operator_work_as_they_stand(resnet):
    base = resnet.addresses["management"]

    registered = _curl(
        "-X", "POST", f"{base}/models?url=resnet50_v2.mar&model_name=resnet50&initial_workers=2"
    )
    assert registered == {
        "status": 'Model "resnet50" Version: 2.0 registered with 2 initial workers'
    }
    assert (_version(resnet), _version(resnet, "resnet50/2.0")) == ("1.0", "2.0")

    assert _curl("-X", "PUT", f"{base}/models/resnet50/2.0/set-default") == {
        "status": 'Default version successfully updated for model "resnet50" to "2.0"'
    }
    assert (_version(resnet), _version(resnet, "resnet50/1.0")) == ("2.0", "1.0")

    assert _curl("-X", "PUT", f"{base}/models/resnet50?min_worker=3&max_worker=10") == {
        "status": "Processing worker updates..."
    }
    resnet.wait_until(lambda: [w["status"] for w in resnet.workers("resnet50")] == ["READY"] * 3)

    old = resnet.workers("resnet50", "1.0")[0]["pid"]
    assert _curl("-X", "DELETE", f"{base}/models/resnet50/1.0") == {
        "status": 'Model "resnet50" unregistered'
    }
    assert resnet.predict("resnet50/1.0").status == 404
    assert not psutil.pid_exists(old)
    assert _version(resnet) == "2.0"


def test_scaling_down_ends_the_youngest_workers(resnet):
    resnet.manage("PUT", "/models/resnet50?min_worker=3&synchronous=true")
    before = resnet.pids("resnet50")

    reply = resnet.manage("PUT", "/models/resnet50?min_worker=1&max_worker=1&synchronous=true")

    assert reply.json() == {"status": "Workers scaled to 1 for model: resnet50"}
    resnet.wait_until(lambda: resnet.pids("resnet50") == before[:1])
    resnet.wait_until(lambda: not any(psutil.pid_exists(pid) for pid in before[1:]))


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("PUT", "/models/resnet50?min_worker=100000"),
        ("POST", "/models?url=resnet50_v2.mar&initial_workers=100000"),
    ],
)
def test_a_slip_of_the_keyboard_does_not_fill_the_machine(resnet, method, target):
    before = resnet.pids("resnet50")

    reply = resnet.manage(method, target)

    assert reply.status == 400
    assert "at most" in reply.json()["message"]
    assert resnet.pids("resnet50") == before


def test_scaling_to_zero_leaves_a_registered_model_that_says_so(resnet):
    resnet.manage("PUT", "/models/resnet50?min_worker=0&synchronous=true")

    reply = resnet.predict("resnet50")

    assert reply.status == 503
    assert 'Model "resnet50" has no worker to serve inference request' in reply.json()["message"]


@pytest.mark.parametrize(
    ("archive", "status", "causes"),
    [
        ("bad.mar", 500, ["Failed to start workers", "a_module_that_nobody_has", "line 3"]),
        ("resnet50_v3.mar", 500, ["RuntimeError: the weights are in another castle"]),
        ("nowhere.mar", 404, ["nowhere.mar"]),
        ("../etc.mar", 404, [".."]),
        ("https://example.org/x.mar", 404, ["does not match any allowed URL"]),
        ("resnet50.mar", 409, ["already registered"]),
    ],
)
def test_an_archive_that_cannot_serve_is_refused_with_its_cause_and_nothing_changes(
    resnet, archive, status, causes
):
    before = resnet.manage("GET", "/models/resnet50/all").json()

    reply = resnet.manage("POST", f"/models?url={archive}&model_name=resnet50&initial_workers=1")

    assert reply.status == status
    for cause in causes:
        assert cause in reply.json()["message"]
    assert _version(resnet) == "1.0"
    after = resnet.manage("GET", "/models/resnet50/all").json()
    assert [v["modelVersion"] for v in after] == [v["modelVersion"] for v in before] == ["1.0"]
    assert resnet.pids("resnet50") == [w["pid"] for w in before[0]["workers"]]


def test_an_asynchronous_registration_says_later_why_it_failed(resnet):
    reply = resnet.manage("POST", "/models?url=bad.mar&initial_workers=1&synchronous=false")
    assert reply.status == 202

    resnet.wait_until(
        lambda: resnet.manage("GET", "/models/bad").json()[0].get("lastError") is not None
    )

    described = resnet.manage("GET", "/models/bad").json()[0]
    assert "a_module_that_nobody_has" in described["lastError"]
    resnet.wait_until(lambda: "a_module_that_nobody_has" in resnet.predict("bad").body.decode())
    assert resnet.predict("bad").status == 503
    not_ready = resnet.call("GET", "inference", "/healthz/ready/bad")
    assert not_ready.status == 503
    assert "a_module_that_nobody_has" in not_ready.body.decode()
    assert resnet.call("GET", "inference", "/healthz/ready").status == 503
    assert resnet.call("GET", "inference", "/ping").status == 200  # for maxRetryTimeoutInSec
    assert resnet.manage("DELETE", "/models/bad").status == 200
    assert resnet.call("GET", "inference", "/healthz/ready").status == 200


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
def test_models_scaling_and_defaults_survive_a_restart(resnet, signal_number):
    url = "/models?url=resnet50_v2.mar&model_name=resnet50&initial_workers=2&batch_size=4"
    assert resnet.manage("POST", url).status == 200
    assert resnet.manage("PUT", "/models/resnet50/2.0/set-default").status == 200
    assert resnet.manage("PUT", "/models/resnet50/1.0?min_worker=3&max_worker=4").status == 202

    resnet.stop(signal_number)
    resnet.start()

    described = {d["modelVersion"]: d for d in resnet.manage("GET", "/models/resnet50/all").json()}
    assert _version(resnet) == "2.0"
    assert (described["2.0"]["batchSize"], len(described["2.0"]["workers"])) == (4, 2)
    assert (described["1.0"]["minWorkers"], described["1.0"]["maxWorkers"]) == (3, 4)
    assert len(described["1.0"]["workers"]) == 3


def test_unregistering_while_another_model_registers_harms_neither(resnet, crowd):
    resnet.pack("slow", "slow_load.py")
    registering = crowd(
        lambda _: resnet.manage("POST", "/models?url=slow.mar&initial_workers=1"), 1
    )
    resnet.wait_until(lambda: len(resnet.children()) > 2)

    assert resnet.manage("DELETE", "/models/resnet50").status == 200
    assert resnet.call("GET", "inference", "/ping").status == 200

    assert resnet.stop() == 0
    assert registering.join()[0].status == 503


def test_a_restored_version_never_answers_with_another_versions_archive(resnet):
    resnet.stop()
    (resnet.store / "resnet50_v2.mar").replace(resnet.store / "resnet50.mar")

    resnet.start()

    assert "was replaced after it was registered" in resnet.problems[0]
    reply = resnet.predict("resnet50/1.0")
    assert reply.status == 503
    assert "was replaced after it was registered" in reply.json()["message"]


def test_a_start_without_snapshots_restores_nothing_and_saves_nothing(resnet):
    resnet.stop()

    resnet.start("--ncs")

    assert resnet.manage("GET", "/models").json() == {"models": []}


def test_a_restored_model_whose_archive_is_gone_is_reported_and_harms_no_other(resnet):
    resnet.manage("POST", "/models?url=resnet50_v2.mar&initial_workers=1")
    resnet.stop()
    (resnet.store / "resnet50_v2.mar").unlink()

    resnet.start()

    assert len(resnet.problems) == 1
    assert "resnet50:2.0 cannot be restored" in resnet.problems[0]
    assert _version(resnet) == "1.0"
    described = resnet.manage("GET", "/models/resnet50/2.0").json()[0]
    assert described["state"] == "FAILED"
    assert resnet.predict("resnet50/2.0").status == 503


def test_an_archive_that_was_gone_serves_again_once_it_is_back_and_scaled(resnet):
    resnet.manage("POST", "/models?url=resnet50_v2.mar&initial_workers=1")
    resnet.stop()
    archive = (resnet.store / "resnet50_v2.mar").read_bytes()
    (resnet.store / "resnet50_v2.mar").unlink()
    resnet.start()
    assert resnet.manage("PUT", "/models/resnet50/2.0?min_worker=1").status == 503

    (resnet.store / "resnet50_v2.mar").write_bytes(archive)
    scaled = resnet.manage("PUT", "/models/resnet50/2.0?min_worker=1&synchronous=true")

    assert scaled.status == 200
    assert resnet.predict("resnet50/2.0").status == 200


def test_a_start_with_a_broken_model_serves_the_others_and_names_it(server):
    server.pack("good", "echo.py")
    server.pack("bad", "broken_import.py")
    (server.store / "torn.mar").write_bytes((server.store / "good.mar").read_bytes()[:-40])

    server.start(load_models="all")

    assert server.predict("good").status == 200
    assert len(server.problems) == 2
    assert any("a_module_that_nobody_has" in problem for problem in server.problems)
    assert any("torn.mar" in problem for problem in server.problems)
