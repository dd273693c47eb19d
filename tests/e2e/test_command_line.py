"""An operator's session with the installed commands against a real server in the background."""

from __future__ import annotations

import json
import subprocess
import sys

import psutil
import pytest


@pytest.fixture
def session(server):
    """`marserve ARGUMENTS` in the server's folder; whatever was started is stopped afterwards."""
    server.pack("echo", "echo.py")
    server.pack("resnet50", "version.py")
    server.pack("resnet50", "version.py", "2.0", file_name="resnet50_v2.mar")
    server.pack("bad", "broken_import.py", "3.0")
    (server.root / "config.properties").write_text(
        "".join(f"{p}_address=http://127.0.0.1:0\n" for p in ("inference", "management", "metrics"))
        + f"model_store={server.store}\ncache_dir={server.root / 'cache'}\n"
        + "default_workers_per_model=1\ngrpc_inference_port=0\ngrpc_management_port=0\n"
    )

    def marserve(*arguments: str, code: int = 0, given: bytes | None = None) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "marserve", *arguments],
            cwd=server.root,
            input=given,
            capture_output=True,
            timeout=60,
        )
        output = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == code, output
        assert "Traceback" not in output
        return output

    yield marserve
    subprocess.run([sys.executable, "-m", "marserve", "stop"], cwd=server.root, check=True)


def test_start_use_and_stop(session, server):
    started = session("start", "--models", "echo=echo.mar,resnet50.mar")
    run = json.loads((server.root / "logs" / "marserve.json").read_text())
    for address in run["addresses"].values():
        assert address in started

    assert session("status").startswith("The server runs")
    assert "already running" in session("start", code=1)

    session("models", "register", "resnet50_v2.mar", "--name", "resnet50", "--workers", "2")
    assert "2.0" in session("models", "describe", "resnet50")
    session("models", "set-default", "resnet50", "2.0")
    assert json.loads(session("predict", "resnet50", "-i", "-", given=b"x"))["version"] == "2.0"
    session("models", "scale", "resnet50", "--min", "3", "--max", "4")
    session("models", "unregister", "resnet50", "--version", "1.0")
    listed = session("models", "list")
    assert "echo" in listed
    assert "resnet50" in listed

    (server.root / "note.json").write_text('{"a": 1}')
    answer = json.loads(session("predict", "echo", "-i", str(server.root / "note.json")))
    assert answer["body"] == {"a": 1}
    assert "Model not found: nobody" in session("predict", "nobody", "-i", "-", code=1, given=b"")
    refused = session("models", "register", "bad.mar", code=1)
    assert "a_module_that_nobody_has" in refused

    assert "has stopped" in session("stop")
    assert _has_ended(run["pid"])
    assert "No server runs" in session("status", code=3)


def _has_ended(pid: int) -> bool:
    """Gone, or gone but for whoever adopted it not having looked yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_start_says_why_it_could_not(session, server):
    session("start")
    run = json.loads((server.root / "logs" / "marserve.json").read_text())
    config = server.root / "second.properties"
    config.write_text(
        f"inference_address={run['addresses']['inference']}\nlog_dir={server.root / 'second'}\n"
        "management_address=http://127.0.0.1:0\nmetrics_address=http://127.0.0.1:0\n"
        f"model_store={server.store}\ngrpc_inference_port=0\ngrpc_management_port=0\n"
    )

    said = session("start", "--config", str(config), code=1)

    assert run["addresses"]["inference"] in said
    assert "inference_address" in said


def test_start_names_the_models_that_cannot_be_loaded(session):
    said = session("start", "--models", "echo.mar,bad.mar,nowhere.mar")

    assert "a_module_that_nobody_has" in said
    assert "nowhere.mar" in said
