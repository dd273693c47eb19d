"""The separate distribution in compat/, run from the source tree."""

import importlib
import sys
import tomllib
from argparse import Namespace
from pathlib import Path

import pytest

from marserve import __version__
from marserve_archiver import open_archive

COMPAT = Path(__file__).parents[2] / "compat"
PROJECT = tomllib.loads((COMPAT / "pyproject.toml").read_text())


@pytest.fixture
def commands(monkeypatch):
    monkeypatch.syspath_prepend(str(COMPAT))
    return importlib.import_module("marserve_torchserve_commands")


@pytest.fixture
def archiver(commands):
    return importlib.import_module("model_archiver")


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "h.py").write_text("def handle(data, context):\n    return data\n")
    (tmp_path / "w.pt").write_bytes(b"weights")
    return tmp_path


def test_every_command_is_a_function_that_there_is(commands):
    scripts = PROJECT["project"]["scripts"]
    assert list(scripts) == ["torchserve", "torch-model-archiver", "torch-workflow-archiver"]
    for target in scripts.values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_everything_of_the_folder_is_in_the_distribution():
    listed = PROJECT["tool"]["setuptools"]
    modules = {path.relative_to(COMPAT).parts[0] for path in COMPAT.rglob("*.py")}
    assert modules == {*(f"{name}.py" for name in listed["py-modules"]), *listed["packages"]}
    assert "ts" not in modules


def test_its_version_is_that_of_marserve():
    assert PROJECT["project"]["version"] == __version__


def test_torchserve_tells_its_version(commands, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["torchserve", "--version"])
    assert commands.torchserve() == 0
    assert capsys.readouterr().out == f"TorchServe Version is 0.12.0 (MarServe {__version__})\n"


def test_torchserve_names_itself_when_the_command_line_is_wrong(commands, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["torchserve", "--start", "--stop"])
    with pytest.raises(SystemExit, match="2"):
        commands.torchserve()
    assert capsys.readouterr().err.endswith(
        "torchserve: error: argument --stop: not allowed with argument --start\n"
    )


def test_torch_model_archiver_packs(commands, files, monkeypatch, capsys):
    arguments = ["--model-name", "m", "-v", "1.0", "--handler", "h.py:handle"]
    arguments += ["--serialized-file", "w.pt"]
    monkeypatch.setattr(sys, "argv", ["torch-model-archiver", *arguments])
    assert commands.torch_model_archiver() == 0
    with open_archive(files / "m.mar") as archive:
        assert (archive.manifest.model_name, archive.manifest.model_version) == ("m", "1.0")
    assert commands.torch_model_archiver() == 1
    assert "m.mar" in capsys.readouterr().err


def test_python_code_packs_a_workflow(commands, files, monkeypatch):
    packaging = importlib.import_module("workflow_archiver.workflow_packaging")
    (files / "flow.yaml").write_text("dag: {a: []}\n")
    arguments = ["--workflow-name", "flow", "--spec-file", "flow.yaml", "--handler", "h.py"]
    monkeypatch.setattr(sys, "argv", ["torch-workflow-archiver", *arguments])
    assert packaging.generate_workflow_archive() is None
    with open_archive(files / "flow.war") as archive:
        names = {member.name for member in archive.members}
    assert names == {"WAR-INF/MANIFEST.json", "flow.yaml", "h.py"}
    with pytest.raises(SystemExit, match="1"):
        packaging.generate_workflow_archive()


@pytest.mark.parametrize("function", ["torch_model_archiver", "torch_workflow_archiver"])
def test_an_archiver_without_arguments_has_wrong_usage(commands, monkeypatch, function):
    monkeypatch.setattr(sys, "argv", ["x"])
    try:
        code = getattr(commands, function)()
    except SystemExit as exit:
        code = exit.code
    assert code == 2


def test_python_code_packs(archiver, files):
    config = archiver.ModelArchiverConfig(
        "m", "h.py:handle", "2.0", "w.pt", extra_files="w.pt, h.py", archive_format="no-archive"
    )
    config.serialized_file = None
    archiver.ModelArchiver.generate_model_archive(config)
    with open_archive(files / "m") as archive:
        assert archive.manifest.model_version == "2.0"
        assert {"w.pt", "h.py"} <= {str(member.name) for member in archive.members}


def test_packing_is_a_function_too(archiver, files, monkeypatch):
    packaging = importlib.import_module("model_archiver.model_packaging")
    config = archiver.ModelArchiverConfig("m", "h.py:handle", "1", "w.pt", force=True)
    packaging.generate_model_archive(config)
    packaging.generate_model_archive(config)
    arguments = ["--model-name", "n", "--version", "1", "--handler", "h.py:handle"]
    monkeypatch.setattr(sys, "argv", ["x", *arguments])
    assert packaging.generate_model_archive() is None
    assert (files / "n.mar").is_file()
    with pytest.raises(SystemExit, match="1"):
        packaging.generate_model_archive()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"serialized_file": "absent.pt"}, FileNotFoundError),
        ({"handler": "absent.py"}, FileNotFoundError),
        ({"model_name": "a/b"}, Exception),
        ({"archive_format": "rar"}, Exception),
    ],
)
def test_what_cannot_be_packed_is_an_error_of_the_archiver(archiver, files, changes, kind):
    errors = importlib.import_module("model_archiver.model_archiver_error")
    fields = {"model_name": "m", "handler": "h.py:handle", "version": "1", **changes}
    with pytest.raises(errors.ModelArchiverError) as caught:
        archiver.ModelArchiver.generate_model_archive(archiver.ModelArchiverConfig(**fields))
    assert isinstance(caught.value, kind)
    assert str(caught.value)
    assert not (files / "m.mar").exists()


def test_an_archive_that_exists_stays_unless_forced(archiver, files):
    config = archiver.ModelArchiverConfig("m", "h.py:handle", "1")
    archiver.ModelArchiver.generate_model_archive(config)
    before = (files / "m.mar").read_bytes()
    errors = importlib.import_module("model_archiver.model_archiver_error")
    with pytest.raises(errors.ModelArchiverError, match=r"m\.mar"):
        archiver.ModelArchiver.generate_model_archive(config)
    assert (files / "m.mar").read_bytes() == before


def test_a_configuration_is_made_of_parsed_arguments(archiver):
    args = Namespace(model_name="m", handler="h", version="1", force=True, other=1)
    config = archiver.ModelArchiverConfig.from_args(args)
    assert config == archiver.ModelArchiverConfig("m", "h", "1", force=True)
    assert (config.runtime, config.export_path) == ("python", str(Path.cwd()))
