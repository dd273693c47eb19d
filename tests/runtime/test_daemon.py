"""`marserve start`, `status` and `stop` as real processes; the server in them is a fake."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

FIXTURE = Path(__file__).parents[1] / "fixtures" / "fake_server"
SOURCES = [path for path in sys.path if path.endswith(("runtime", "handlers", "archiver"))]


class Shell:
    """Runs `marserve` in one directory and ends every server that is left."""

    def __init__(self, directory):
        self.directory = directory
        self.run_file = directory / "logs" / "marserve.json"
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "PYTHONPATH": os.pathsep.join([str(FIXTURE), *SOURCES]),
        }

    def popen(self, *arguments, mode="ready", **streams):
        return subprocess.Popen(
            [sys.executable, "-m", "marserve", *arguments],
            cwd=self.directory,
            env={**self.environ, "FAKE_SERVER": mode},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **streams,
        )

    def run(self, *arguments, mode="ready"):
        with self.popen(*arguments, mode=mode) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def start(self, *arguments, mode="ready"):
        return self.run("start", "--model-store", ".", *arguments, mode=mode)

    @property
    def pid(self):
        return json.loads(self.run_file.read_text())["pid"]

    def end(self):
        if self.run_file.exists():
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(self.pid).kill()


@pytest.fixture
def shell(tmp_path):
    shell = Shell(tmp_path)
    yield shell
    shell.end()


def test_start_status_stop(shell):
    code, out, err = shell.start("--models", "a.mar", "b=b.mar", "--ncs")
    pid = shell.pid
    management = json.loads(shell.run_file.read_text())["addresses"]["management"]
    log = shell.directory / "logs" / "ts_log.log"
    assert (code, err) == (0, "")
    assert out == (
        f"The server runs (pid {pid}).\n"
        "  inference       http://127.0.0.1:8080\n"
        f"  management      {management}\n"
        f"  log             {log}\n"
    )
    printed = log.with_name("marserve.log").read_text()
    assert f"storing in {shell.directory} snapshots False" in printed
    assert os.getsid(pid) == pid

    code, out, err = shell.run("status")
    first, *addresses, _, head, row = out.splitlines()
    assert (code, err) == (0, "")
    assert first.startswith(f"The server runs (pid {pid}, for ")
    assert addresses == [
        "  inference       http://127.0.0.1:8080",
        f"  management      {management}",
    ]
    assert head.split() == ["MODEL", "VERSION", "STATE", "WORKERS", "WAITING", "ARCHIVE"]
    assert row == "digits  1.0 (default)  READY  1 of 1   0        digits.mar"

    assert shell.run("stop") == (0, f"The server (pid {pid}) has stopped.\n", "")
    assert not shell.run_file.exists()
    where = f"No server runs with the log directory {shell.directory / 'logs'}.\n"
    assert shell.run("status") == (3, where, "")
    assert shell.run("stop") == (0, where, "")


def test_status_speaks_json(shell):
    assert json.loads(shell.run("status", "--json")[1]) == {"running": False}
    shell.start()
    code, out, _ = shell.run("status", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["pid"] == shell.pid
    assert document["addresses"]["inference"] == "http://127.0.0.1:8080"


def test_a_second_start_says_that_one_runs(shell):
    shell.start()
    code, out, err = shell.start()
    assert (code, out) == (1, "")
    assert err.startswith(f"marserve: A server is already running (pid {shell.pid}; http://")


def test_models_that_did_not_load_are_warned_of(shell):
    code, _, err = shell.start(mode="problems")
    assert (code, err) == (0, "marserve: warning: b.mar is broken.\n")


def test_a_server_that_refuses_gives_its_reason(shell):
    code, out, err = shell.start(mode="refuse")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "marserve: Port 8080 is taken by another process."
    assert not shell.run_file.exists()


def test_a_server_that_dies_leaves_the_last_lines_of_its_log(shell):
    log = shell.directory / "logs" / "marserve.log"
    log.parent.mkdir()
    log.write_text("a line of yesterday\n")
    code, _, err = shell.start(mode="die")
    assert code == 1
    assert err.startswith("marserve: The server ended with exit code 7. The last lines of ")
    assert "\n  fake server: dying now\n" in err
    assert "yesterday" not in err


def test_start_does_not_wait_for_ever_and_leaves_the_server(shell):
    code, _, err = shell.start("--timeout", "1", mode="hang")
    assert code == 1
    assert f"The server (pid {shell.pid}) is not ready after 1 s." in err
    code, out, _ = shell.run("status")
    assert code == 0
    assert out.endswith("It is still starting.\n")
    assert shell.run("stop")[0] == 0


def test_an_interrupted_start_leaves_the_server_and_says_so(shell):
    with shell.popen("start", "--model-store", ".", mode="hang") as process:
        assert select.select([process.stderr], [], [], 60)[0]  # it shows that it waits
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "\nmarserve: interrupted; the server goes on starting" in err
    assert psutil.pid_exists(shell.pid)


def test_stop_says_when_the_server_does_not_end(shell):
    shell.start(mode="stubborn")
    code, _, err = shell.run("stop", "--timeout", "0.3")
    assert code == 1
    assert f"The server (pid {shell.pid}) still runs after 0.3 s." in err
    assert psutil.pid_exists(shell.pid)


def test_stop_does_not_touch_a_process_that_only_has_the_pid(shell):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        shell.run_file.parent.mkdir()
        shell.run_file.write_text(
            json.dumps({"pid": stranger.pid, "started_at": 1.0, "addresses": {}})
        )
        code, out, _ = shell.run("stop")
        assert stranger.poll() is None
        stranger.communicate(b"\n")
    assert (code, out[:14]) == (0, "No server runs")
    assert not shell.run_file.exists()


def test_after_a_kill_the_next_start_works(shell):
    shell.start()
    process = psutil.Process(shell.pid)
    process.kill()
    process.wait(10)
    assert shell.run("status")[0] == 3
    assert shell.start()[0] == 0


def test_serve_tells_its_addresses_and_removes_its_file_at_the_end(shell):
    with shell.popen("serve", "--model-store", ".") as process:
        assert select.select([process.stdout], [], [], 60)[0]
        lines = [process.stdout.readline() for _ in range(4)]
        assert process.pid == shell.pid
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert lines[1] == f"The server is ready (pid {process.pid}).\n"
    assert lines[2] == "  inference       http://127.0.0.1:8080\n"
    assert (process.returncode, out, err) == (0, "", "")
    assert not shell.run_file.exists()


def test_an_error_after_ready_does_not_write_into_other_files(shell, tmp_path, monkeypatch):
    """The pipe is closed after the report; its number may belong to a socket by then."""
    from marserve import config, daemon
    from marserve.errors import Bug

    reader, writer = os.pipe()
    mine, yours = socket.socketpair()

    class State:
        addresses: ClassVar = {"inference": "x"}
        problems = ()
        notes = ()

    def serve(_config, *, on_ready, console):
        on_ready(State())
        os.dup2(mine.fileno(), writer)
        raise Bug("later")

    loaded = config.load(None, {}, {}, tmp_path)
    with mine, yours, pytest.raises(Bug):
        daemon.serve_here(
            loaded.config, serve, ready_fd=writer, on_ready=lambda _: None, console=False
        )
    with os.fdopen(reader) as pipe:
        assert json.loads(pipe.read()) == {
            "addresses": {"inference": "x"},
            "problems": [],
            "notes": [],
        }
    os.fstat(writer)
    os.close(writer)
