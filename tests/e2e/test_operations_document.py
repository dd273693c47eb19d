"""docs/operations.md: its commands run, its probes are served, its units start what there is."""

import configparser
import re
import subprocess
import sys
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


def test_the_commands_run_in_their_order(folder):
    [block] = blocks("sh")
    commands = block.split("\n")[:-1]
    assert [command.split()[1] for command in commands] == ["start", "status", "restart", "stop"]
    said = []
    for command in [*commands, "marserve status"]:
        words = [sys.executable, "-m", *command.split()]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)
        said.append((done.returncode, done.stdout))
    assert [code for code, _ in said] == [0, 0, 0, 0, 3], said
    assert "it took over from pid" in said[2][1]
    pid = re.search(r"runs \(pid (\d+)\)", said[2][1])[1]
    assert said[3][1] == f"The server (pid {pid}) has stopped.\n"


def test_the_probes_are_paths_that_are_served(server):
    server.pack("echo", "echo.py")
    server.start(load_models="echo.mar")
    [block] = blocks("yaml")
    [container] = yaml.safe_load(block)["spec"]["containers"]
    paths = {probe["httpGet"]["path"] for name, probe in container.items() if "Probe" in name}
    assert paths == {"/healthz/ready", "/healthz/live"}
    for path in paths:
        assert server.call("GET", "inference", path).status == 200
    assert server.call("GET", "inference", "/healthz/ready/echo").status == 200


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
