"""docs/operations.md: its commands run, its probes are served, its units start what there is."""

import configparser
import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from marserve.cli import main

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def folder(server):
    server.pack("echo", "echo.py")
    (server.root / "config.properties").write_text(
        "inference_address=http://127.0.0.1:0\nmanagement_address=http://127.0.0.1:0\n"
        "enable_metrics_api=false\nenable_grpc_api=false\nload_models=echo.mar\n"
        f"model_store={server.store}\ncache_dir={server.root}/cache\n"
    )
    return server.root


def run(folder, command):
    words = [sys.executable, "-m", *command.split()]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)


def probes():
    [block] = blocks("yaml")
    [container] = yaml.safe_load(block)["spec"]["containers"]
    return {probe["httpGet"]["path"] for name, probe in container.items() if "Probe" in name}


def test_the_commands_run_in_their_order_and_the_probes_are_served(folder):
    [block] = blocks("sh")
    start, status, restart, stop = block.split("\n")[:-1]
    assert probes() == {"/healthz/ready", "/healthz/live"}

    assert run(folder, start).returncode == 0
    found = json.loads(run(folder, f"{status} --json").stdout)
    for path in (*probes(), "/healthz/ready/echo"):
        with urllib.request.urlopen(found["addresses"]["inference"] + path) as answer:
            assert answer.status == 200
    restarted = run(folder, restart)
    assert restarted.returncode == 0
    assert f"it took over from pid {found['pid']}." in restarted.stdout
    pid = re.search(r"runs \(pid (\d+)\)", restarted.stdout)[1]
    assert run(folder, stop).stdout == f"The server (pid {pid}) has stopped.\n"
    assert run(folder, status).returncode == 3
    assert run(folder, restart).returncode == 3


def test_the_units_start_commands_that_there_are():
    service, sockets = blocks("ini")
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read_string(service)
    for key in ("ExecStart", "ExecReload"):
        program, command, option, _ = unit["Service"][key].split()
        assert program.endswith("/marserve")
        assert option in main.commands[command].params[-1].opts or any(
            option in parameter.opts for parameter in main.commands[command].params
        )
    assert unit["Service"]["Type"] == "notify"
    assert unit["Service"]["KillMode"] == "mixed"
    assert "ListenStream=127.0.0.1:8080" in sockets
