"""What `marserve doctor` says of a machine, and when it says that the server cannot start."""

import json
import socket

import pytest
from click.testing import CliRunner

from marserve.cli import main
from marserve.workers import layers, sandbox


@pytest.fixture
def doctor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TS_CONFIG_FILE", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")

    def doctor(*arguments, **settings):
        ports = ("inference_address", "management_address", "metrics_address")
        values = dict.fromkeys(ports, "http://127.0.0.1:0") | settings
        values = {"grpc_inference_port": 0, "grpc_management_port": 0} | values
        text = "".join(f"{key}={value}\n" for key, value in values.items())
        (tmp_path / "config.properties").write_text(text)
        result = CliRunner().invoke(main, ["doctor", *arguments])
        return result.exit_code, result.stdout

    return doctor


@pytest.fixture
def old_kernel(monkeypatch):
    monkeypatch.setattr(layers, "landlock_abi", lambda: 0)


def found(text):
    document = json.loads(text)
    return document["can_start"], {one["name"]: one for one in document["findings"]}


def test_every_layer_is_tried_and_not_only_looked_up(doctor):
    code, out = doctor("--json")

    can_start, findings = found(out)
    assert (code, can_start) == (0, True)
    has_files = layers.landlock_abi() >= sandbox.LEAST_ABI
    assert findings["writing files"]["state"] == ("active" if has_files else "missing")
    assert findings["system calls"]["state"] == ("active" if layers.has_seccomp() else "missing")
    assert findings["privileges"]["state"] == "active"
    assert findings["network"]["state"] == "off"
    assert "AWS_SECRET_ACCESS_KEY" in findings["environment"]["found"]
    assert {"kernel", "Landlock", "open files", "clock", "cache", "inference"} <= set(findings)


def test_nothing_holds_where_the_sandbox_is_off(doctor):
    _, findings = found(doctor("--json", sandbox="off")[1])
    assert findings["mode"]["state"] == "off"
    assert findings["writing files"]["state"] == "off"
    assert findings["privileges"]["state"] == "active"


def test_a_strict_sandbox_that_cannot_be_had_is_an_error_that_says_what_is_lacking(
    doctor, old_kernel
):
    code, out = doctor(sandbox="strict")
    assert code == 1
    assert "sandbox=strict needs Landlock of Linux 6.7 or later (found: none)" in out
    assert "The server cannot start as it is configured: mode" in out


def test_a_default_sandbox_starts_on_an_old_kernel_and_says_what_would_help(doctor, old_kernel):
    code, out = doctor()
    assert code == 0
    assert "→ Use Linux 6.12 or later with landlock" in out
    assert "The server can start; it lacks: Landlock." in out


def test_a_port_that_is_taken_is_told(doctor):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, out = doctor(inference_address=f"http://127.0.0.1:{port}")
    assert code == 1
    assert f"http://127.0.0.1:{port}: address already in use" in out
