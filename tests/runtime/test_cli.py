import subprocess
import sys
from types import ModuleType
from typing import ClassVar

import pytest
from click.testing import CliRunner

from marserve.cli import main
from marserve.config import LoadModels, ModelToLoad
from marserve.errors import PortInUse


class State:
    addresses: ClassVar = {
        "inference": "http://127.0.0.1:8080",
        "management": "http://127.0.0.1:8081",
    }
    problems = ("b.mar is broken.",)
    notes = ("Key file located at key_file.json",)


@pytest.fixture
def served(monkeypatch):
    """The configurations that a fake `marserve.server.serve` got."""
    configs = []

    def serve(config, *, on_ready, console):
        configs.append(config)
        if config.batch_size == 99:
            raise PortInUse("Port 8080 is taken.")
        on_ready(State())
        return 0

    server = ModuleType("marserve.server")
    server.serve = serve
    monkeypatch.setitem(sys.modules, "marserve.server", server)
    return configs


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TS_CONFIG_FILE", raising=False)
    (tmp_path / "store").mkdir()

    def run(*arguments):
        result = CliRunner().invoke(main, arguments)
        return result.exit_code, result.stdout, result.stderr

    return run


def entries(*names):
    return LoadModels(tuple(ModelToLoad(None, name) for name in names))


@pytest.mark.parametrize(
    ("arguments", "load_models", "snapshots"),
    [
        ([], LoadModels(), True),
        (["--ncs"], LoadModels(), False),
        (["--no-config-snapshots"], LoadModels(), False),
        (["--models", "all"], LoadModels(all=True), True),
        (["--models", "a.mar,b.mar"], entries("a.mar", "b.mar"), True),
        (["--models", "a.mar", "b.mar", "--ncs"], entries("a.mar", "b.mar"), False),
        (["--models", "a.mar", "--models", "b.mar"], entries("a.mar", "b.mar"), True),
        (["--models=a.mar", "--ncs", "--models", "b.mar"], entries("a.mar", "b.mar"), False),
        (["--models", "x=a.mar"], LoadModels((ModelToLoad("x", "a.mar"),)), True),
    ],
)
def test_serve_takes_its_options(run, served, tmp_path, arguments, load_models, snapshots):
    assert run("serve", "--model-store", "store", *arguments)[0] == 0
    (config,) = served
    assert config.model_store == tmp_path / "store"
    assert (config.load_models, config.snapshots) == (load_models, snapshots)


@pytest.mark.parametrize("option", ["--config", "--ts-config"])
def test_the_file_may_be_named_in_the_words_of_torchserve(run, served, tmp_path, option):
    (tmp_path / "mine").write_text("model_store=store\nnumber_of_netty_threads=4")
    code, _, err = run("serve", option, "mine")
    assert code == 0
    assert err.startswith("marserve: warning: mine, line 2: number_of_netty_threads has no")
    assert served[0].config_file == tmp_path / "mine"


def test_serve_tells_where_it_listens_and_what_did_not_load(run, served):
    code, out, err = run("serve", "--model-store", "store")
    assert code == 0
    assert out.splitlines()[1:] == [
        "  inference       http://127.0.0.1:8080",
        "  management      http://127.0.0.1:8081",
        "Key file located at key_file.json",
    ]
    assert err == "marserve: warning: b.mar is broken.\n"


@pytest.mark.parametrize("command", ["serve", "start"])
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 1, "There is no model store: give --model-store DIR"),
        (["--model-store", "nope"], 1, "The model store {cwd}/nope is not a directory."),
        (["--config", "nope"], 1, "The configuration file {cwd}/nope does not exist."),
        (["--model-store", "store", "--models", "all,x"], 1, "the command line: load_models="),
        (["--frobnicate"], 2, "No such option '--frobnicate'. See `main {command} --help`."),
        (["store"], 2, "Got unexpected extra argument (store). See `main {command} --help`."),
    ],
)
def test_a_mistake_is_one_sentence(run, served, tmp_path, command, arguments, code, sentence):
    expected = sentence.format(cwd=tmp_path, command=command)
    got, out, err = run(command, *arguments)
    assert (got, out) == (code, "")
    assert err.startswith(f"marserve: {expected}")
    assert err.count("\n") == 1
    assert served == []


def test_a_server_that_cannot_start_is_one_sentence(run, served, tmp_path):
    (tmp_path / "config.properties").write_text("model_store=store\nbatch_size=99")
    assert run("serve") == (1, "", "marserve: Port 8080 is taken.\n")
    assert not (tmp_path / "logs" / "marserve.json").exists()


@pytest.mark.parametrize("command", ["serve", "start"])
def test_a_log_directory_that_cannot_be_is_one_sentence(run, served, tmp_path, command):
    (tmp_path / "file").write_text("")
    (tmp_path / "config.properties").write_text("model_store=store\nlog_dir=file/logs")
    assert run(command) == (
        1,
        "",
        f"marserve: log_dir={tmp_path}/file/logs cannot be written (not a directory): "
        "make it writable or set another log_dir.\n",
    )


def test_config_check_finds_all_mistakes(run, tmp_path):
    assert run("config", "check") == (0, "The default configuration can be used.\n", "")
    (tmp_path / "config.properties").write_text("batch_size=0\nbatchsize=1")
    code, _, err = run("config", "check")
    assert code == 1
    assert err.splitlines()[0] == "marserve: The configuration has 2 mistakes:"


def test_the_example_is_a_configuration(run, tmp_path):
    (tmp_path / "config.properties").write_text(run("config", "example")[1])
    expected = f"{tmp_path / 'config.properties'} can be used.\n"
    assert run("config", "check") == (0, expected, "")


def test_without_a_command_the_help_is_shown(run):
    code, out, err = run()
    assert (code, out) == (2, "")
    assert err.startswith("Usage: ")
    assert "Exit codes:\n" in err


def test_commands_stand_in_the_order_of_use(run):
    out = run("--help")[1]
    names = [line.split()[0] for line in out.partition("Commands:\n")[2].splitlines() if line]
    assert names[:5] == ["serve", "start", "stop", "restart", "status"]
    assert names[5:8] == ["config", "models", "predict"]


def test_the_version_is_told():
    command = [sys.executable, "-m", "marserve", "--version"]
    assert subprocess.check_output(command, text=True).startswith("MarServe 0.")


def test_asking_a_server_loads_none_of_its_parts():
    script = (
        "import sys, marserve.cli\n"
        "heavy = {'psutil', 'flask', 'uvloop', 'asyncio', 'marserve.server', 'marserve.daemon'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    command = [sys.executable, "-c", script]
    assert subprocess.run(command).returncode == 0
