"""TorchServe's command line as real processes; the server in them is a fake."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from marserve import __version__

FIXTURE = Path(__file__).parents[1] / "fixtures" / "fake_server"
SOURCES = [path for path in sys.path if path.endswith(("runtime", "handlers", "archiver"))]
RUNS = "TorchServe is already running, please use torchserve --stop to stop TorchServe.\n"


class Shell:
    """Runs `marserve` in one directory, with a folder for temporary files of its own."""

    def __init__(self, directory):
        self.directory = directory
        self.temp = directory / "temp"
        self.temp.mkdir()
        (directory / "store").mkdir()
        self.pid_file = self.temp / ".model_server.pid"
        self.outputs = itertools.count()
        self.output = directory
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "TMPDIR": str(self.temp),
            "PYTHONPATH": os.pathsep.join([str(FIXTURE), *SOURCES]),
        }

    def popen(self, *arguments, **environ):
        self.output = self.directory / f"output.{next(self.outputs)}"
        with self.output.open("w") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "marserve", *arguments],
                cwd=self.directory,
                env={**self.environ, **environ},
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
            )

    def run(self, *arguments, **environ):
        """A server in the background keeps the output, so it goes to a file."""
        process = self.popen(*arguments, **environ)
        assert process.stderr is not None
        code = process.wait(60)
        err = "" if "--start" in arguments and code == 0 else process.stderr.read()
        process.stderr.close()
        return code, self.output.read_text(), err

    def start(self, *arguments, **environ):
        return self.run("--start", "--model-store", "store", *arguments, **environ)

    def end(self):
        if self.pid_file.exists():
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(int(self.pid_file.read_text())).kill()


def lives(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def shell(tmp_path):
    shell = Shell(tmp_path)
    yield shell
    shell.end()


def test_start_and_stop(shell):
    code, out, _ = shell.start("--models", "a.mar", "b=b.mar", "--ncs", "--dt")
    pid = int(shell.pid_file.read_text())
    assert code == 0
    assert "warning" not in out
    assert os.getsid(pid) == pid
    assert shell.run("--start")[:2] == (1, RUNS)
    assert shell.run("--stop") == (0, "TorchServe has stopped.\n", "")
    assert not lives(pid)
    assert not shell.pid_file.exists()
    assert shell.run("--stop") == (0, "TorchServe is not currently running.\n", "")


def test_a_server_in_the_foreground_ends_with_0(shell):
    process = shell.popen("--model-store", "store", "--foreground")
    assert process.stderr is not None
    run_file = shell.directory / "logs" / "marserve.json"
    try:
        while not run_file.exists() or "http" not in run_file.read_text():
            assert process.poll() is None
        assert shell.pid_file.read_text() == str(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert not shell.pid_file.exists()


@pytest.mark.parametrize("flag", ["-v", "--version"])
def test_the_version_is_that_of_torchserve(flag):
    from marserve import torchserve_cli

    got = subprocess.run(
        [sys.executable, "-c", f"import sys; from marserve.torchserve_cli import main; "
         f"sys.exit(main(['{flag}']))"],
        env={"PYTHONPATH": os.pathsep.join(SOURCES)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert got.stdout == f"TorchServe Version is 0.12.0 (MarServe {__version__})\n"
    assert torchserve_cli.TORCHSERVE_VERSION == "0.12.0"


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        (["--start"], {}, "Missing mandatory parameter --model-store"),
        (["--foreground"], {}, "Missing mandatory parameter --model-store"),
        (["--model-store", "nope"], {}, "--model-store directory not found: nope"),
        (
            ["--start", "--model-store", "store", "--workflow-store", "nope"],
            {},
            "--workflow-store directory not found: nope",
        ),
        (["--start", "--ts-config", "nope"], {}, "--ts-config file not found: nope"),
        (["--start"], {"TS_CONFIG_FILE": "nope"}, "--ts-config file not found: nope"),
        (["--start", "--log-config", "nope"], {}, "--log-config file not found: nope"),
        (["--start", "--cpp-log-config", "nope"], {}, "--cpp-log-config file not found: nope"),
        (
            ["--start", "--model-store", "store"],
            {"TEMP": "/nope"},
            "Invalid temp directory: /nope, please check TEMP environment variable.",
        ),
    ],
)
def test_a_start_that_cannot_be_is_told_in_the_words_of_torchserve(
    shell, arguments, environ, message
):
    assert shell.run(*arguments, **environ) == (1, f"{message}\n", "")
    assert not shell.pid_file.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--start", "--stop"], "argument --stop: not allowed with argument --start"),
        (["-v", "--start"], "argument --start: not allowed with argument -v/--version"),
        (["--bogus"], "unrecognized arguments: --bogus"),
    ],
)
def test_a_wrong_command_line_ends_with_2(shell, arguments, message):
    code, out, err = shell.run(*arguments)
    assert (code, out) == (2, "")
    assert err.endswith(f"marserve: error: {message}\n") or "--start" in arguments


def test_an_orphan_is_removed_before_anything_else(shell):
    shell.pid_file.write_text("999999999")
    orphan = "Removing orphan pid file.\n"
    assert shell.run("--stop")[1] == f"{orphan}TorchServe is not currently running.\n"
    shell.pid_file.write_text("999999999")
    assert shell.run("--model-store", "nope")[1] == (
        f"{orphan}--model-store directory not found: nope\n"
    )
    assert not shell.pid_file.exists()


def test_a_configuration_that_cannot_be_used_is_a_sentence(shell):
    (shell.directory / "mine").write_text("batch_size=x")
    assert shell.run("--ts-config", "mine") == (
        1,
        "",
        "marserve: Invalid configuration: mine, line 1: batch_size=x: "
        "expected a whole number, at least 1.\n",
    )


def test_a_server_that_refuses_to_start_says_why(shell):
    code, out, err = shell.run("--model-store", "store", FAKE_SERVER="refuse")
    assert code == 1
    assert "Port 8080 is taken by another process." in err
    assert not shell.pid_file.exists()
    assert "Traceback" not in out + err


def test_flags_without_an_effect_are_noticed(shell):
    (shell.directory / "log4j2.xml").write_text("")
    arguments = ["--model-store", "store", "--log-config", "log4j2.xml", "--ppath", "x.jar"]
    code, _, err = shell.run(*arguments, FAKE_SERVER="die")
    assert code == 1
    assert "warning: the command line: plugins_path has no meaning here: Java plug-ins" in err
    assert "warning: --log-config log4j2.xml is not read: log4j2 files are Java's." in err


def test_a_restart_takes_the_last_snapshot_unless_told_not_to(shell):
    folder = shell.directory / "logs" / "config"
    folder.mkdir(parents=True)
    (folder / "20261122183841111-shutdown.cfg").write_text(
        f'model_store={shell.directory}/store\nmodel_snapshot={{"models"\\: {{}}}}\n'
    )
    assert shell.run("--ncs")[1] == "Missing mandatory parameter --model-store\n"
    code, _, err = shell.run("--start", FAKE_SERVER="die")
    assert code == 1
    assert "warning: the configuration is taken from the snapshot" in err
