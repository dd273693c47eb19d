"""Packing a workflow: the form of torch-workflow-archiver, the care of our own archives."""

import json
import zipfile

import pytest

from marserve_archiver import open_archive
from marserve_archiver.cli import main
from marserve_archiver.errors import ArchiveExists, InputClash, InputInvalid, InputMissing
from marserve_archiver.workflow_packing import WorkflowRecipe, pack_workflow


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    (tmp_path / "flow.yaml").write_text("dag: {pre: []}\n")
    (tmp_path / "flow.py").write_text("def pre(data, context):\n    return data\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "words.txt").write_text("words")
    return tmp_path


def _recipe(files, **changes):
    named = {"spec_file": files / "flow.yaml", "handler": files / "flow.py", **changes}
    return WorkflowRecipe("flow", **named)


def test_the_archive_is_a_zip_with_the_manifest_where_servers_look_for_it(files):
    path = pack_workflow(_recipe(files, extra_files=("more",)), files / "out")

    assert path == files / "out" / "flow.war"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [
            *("WAR-INF/MANIFEST.json", "flow.py", "flow.yaml", "words.txt"),
        ]
        manifest = json.loads(archive.read("WAR-INF/MANIFEST.json"))
    assert list(manifest) == ["createdOn", "archiverVersion", "workflow"]
    assert manifest["workflow"] == {
        "workflowName": "flow",
        "specFile": "flow.yaml",
        "handler": "flow.py",
    }


def test_the_same_files_give_the_same_bytes(files):
    first = pack_workflow(_recipe(files), files / "a").read_bytes()
    (files / "flow.py").touch()

    assert pack_workflow(_recipe(files), files / "b").read_bytes() == first


def test_a_handler_can_be_left_out_or_named_without_its_ending(files):
    without = pack_workflow(_recipe(files, handler=None), files / "a")
    with zipfile.ZipFile(without) as archive:
        assert "handler" not in json.loads(archive.read("WAR-INF/MANIFEST.json"))["workflow"]
    assert pack_workflow(_recipe(files, handler=files / "flow"), files / "b").is_file()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"spec_file": "absent.yaml"}, InputMissing),
        ({"handler": "absent"}, InputMissing),
        ({"handler": "more"}, InputMissing),
        ({"extra_files": ("absent",)}, InputMissing),
        ({"extra_files": ("clash",)}, InputClash),
        ({"spec_file": "more"}, InputInvalid),
    ],
)
def test_what_cannot_be_packed_leaves_nothing(files, changes, kind):
    (files / "clash").mkdir()
    (files / "clash" / "flow.py").write_text("other")
    paths = {key: files / v if isinstance(v, str) else v for key, v in changes.items()}

    with pytest.raises(kind):
        pack_workflow(_recipe(files, **paths), files / "out")

    assert not (files / "out").exists() or list((files / "out").iterdir()) == []


def test_an_archive_that_exists_stays_unless_forced(files):
    path = pack_workflow(_recipe(files), files)
    path.write_bytes(b"mine")

    with pytest.raises(ArchiveExists, match="--force"):
        pack_workflow(_recipe(files), files)
    assert path.read_bytes() == b"mine"
    pack_workflow(_recipe(files), files, force=True)
    open_archive(path).close()


def test_the_command_packs_and_says_so(files, capsys):
    arguments = ["workflow", "--workflow-name", "flow", "--spec-file", "flow.yaml"]
    arguments += ["--handler", "flow.py", "--extra-files", "more, flow.py", "--export-path", "out"]

    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("out/flow.war: flow, 4 files, ")
    assert main(arguments) == 4
    assert "add --force" in capsys.readouterr().err
    assert main([*arguments, "-f"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--workflow-name", "flow", "--spec-file", "absent.yaml"], 3),
        (["--workflow-name", "a/b", "--spec-file", "flow.yaml"], 6),
        (["--workflow-name", "flow"], 2),
        ([], 2),
    ],
)
def test_an_error_of_the_command_is_one_sentence_and_a_code(files, arguments, code, capsys):
    try:
        got = main(["workflow", *arguments])
    except SystemExit as exit:
        got = exit.code
    assert got == code
    assert "archiver" in capsys.readouterr().err
