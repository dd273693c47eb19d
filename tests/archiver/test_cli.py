import io
import json
import os
import pty
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from marserve_archiver import cli

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
COMMAND = [sys.executable, "-m", "marserve_archiver"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    Path("model.py").write_text("class Net: pass\n")
    Path("resnet50.pth").write_bytes(os.urandom(100_000))
    Path("custom_handler.py").write_text("def handle(data, context):\n    return data\n")
    Path("index_to_name.json").write_text('{"0": "cat"}')
    return tmp_path


def archiver(line: str, capsys) -> tuple[int, str, str]:
    code = cli.main(line.split())
    captured = capsys.readouterr()
    return code, captured.out, captured.err


PACK = (
    "--model-name resnet50 --version 1.0 --model-file model.py --serialized-file resnet50.pth "
    "--handler custom_handler.py --extra-files index_to_name.json --export-path model_store/"
)

LARGE = "--model-name m -v 1 --handler h --serialized-file big.pt"


@pytest.mark.parametrize("command", ["", "pack "])
def test_the_command_line_of_the_readme_packs(command, capsys):
    code, out, err = archiver(command + PACK, capsys)
    assert (code, err) == (0, "")
    assert out.startswith("model_store/resnet50.mar: resnet50 1.0, 5 files, ")
    with zipfile.ZipFile("model_store/resnet50.mar") as archive:
        assert sorted(archive.namelist()) == [
            "MAR-INF/MANIFEST.json",
            "custom_handler.py",
            "index_to_name.json",
            "model.py",
            "resnet50.pth",
        ]


def test_every_short_flag_works(capsys):
    Path("requirements.txt").touch()
    Path("config.yaml").touch()
    line = "--model-name m -v 2.0 --handler base_handler -r requirements.txt -c config.yaml"
    assert archiver(f"{line} --runtime python3 --archive-format no-archive", capsys)[0] == 0
    assert archiver(f"{line} --runtime LSP --archive-format no-archive -f", capsys)[0] == 0
    manifest = json.loads(Path("m/MAR-INF/MANIFEST.json").read_text())
    assert manifest["runtime"] == "LSP"
    assert manifest["model"] == {
        "modelName": "m",
        "handler": "base_handler",
        "modelVersion": "2.0",
        "requirementsFile": "requirements.txt",
        "configFile": "config.yaml",
    }


def test_extra_files_are_a_comma_list(capsys):
    Path("a b.txt").touch()
    arguments = ["--model-name", "m", "-v", "1", "--handler", "base_handler"]
    assert cli.main([*arguments, "--extra-files", "index_to_name.json, a b.txt,*.pth,"]) == 0
    with zipfile.ZipFile("m.mar") as archive:
        assert {"index_to_name.json", "a b.txt", "resnet50.pth"} < set(archive.namelist())


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("inspect gone.mar", 3, "gone.mar does not exist."),
        ("verify gone.mar", 3, "gone.mar does not exist."),
        (
            "--model-name m -v 1 --handler gone.py",
            3,
            "The handler file gone.py does not exist; give a .py file, or the name of an "
            "installed handler.",
        ),
        ("--model-name there -v 1 --handler h", 4, "there.mar exists already; add --force to "
         "replace it."),
        ("inspect there.mar", 5, "there.mar is refused: The file is not a zip archive."),
        ("verify there.mar", 5, "there.mar has 1 problem."),
        (
            "--model-name m -v 1/2 --handler h",
            6,
            "The version '1/2' cannot be used: it must begin with a letter or digit and hold only "
            "letters, digits, '.', '_', '+' and '-' (64 at most).",
        ),
        ("--model-name m -v 1 --handler h --export-path model.py", 6, "The export path model.py is "
         "not a folder."),
        ("unpack there.mar", 2, "'unpack' is no command; there are pack, workflow, inspect, "
         "verify, keygen, sign."),
    ],
)  # fmt: skip
def test_an_error_is_one_sentence_and_a_code(line, code, sentence, capsys):
    Path("there.mar").write_text("no archive")
    got_code, _, err = archiver(line, capsys)
    assert (got_code, err) == (code, f"archiver: {sentence}\n")


@pytest.mark.parametrize("line", ["", "--model-name m", "inspect", "--runtime java"])
def test_wrong_usage_is_code_2_and_says_what_is_missing(line, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(line.split())
    assert caught.value.code == 2
    assert "usage: archiver" in capsys.readouterr().err


def test_the_help_shows_an_example_and_the_exit_codes(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    page = capsys.readouterr().out
    assert "example:\n  archiver --model-name resnet50" in page
    assert "5 archive refused" in page
    assert all(len(line) <= 100 for line in page.splitlines())


def test_inspect_shows_and_verify_approves_what_was_packed(capsys):
    archiver(PACK, capsys)
    code, out, _ = archiver("inspect model_store/resnet50.mar", capsys)
    assert (code, out.splitlines()[2]) == (0, "  model         resnet50 1.0")
    code, out, _ = archiver("inspect --json model_store/resnet50.mar", capsys)
    assert json.loads(out)["manifest"]["model"]["handler"] == "custom_handler.py"
    assert archiver("verify model_store/resnet50.mar", capsys) == (
        0,
        "OK model_store/resnet50.mar: resnet50 1.0, 5 files\n",
        "",
    )


def test_verify_lists_problems_one_sentence_a_line(capsys):
    with zipfile.ZipFile("x.mar", "w") as archive:
        archive.writestr("../a", "")
        archive.writestr("/b", "")
    assert archiver("verify x.mar", capsys) == (
        5,
        "The member name '../a' has the part '..'.\nThe member name '/b' is an absolute path.\n",
        "archiver: x.mar has 2 problems.\n",
    )


def test_what_cannot_be_written_is_a_sentence(capsys, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "model_store/.resnet50.partial")

    monkeypatch.setattr(cli, "pack", refuse)
    code, _, err = archiver(PACK, capsys)
    assert (code, err) == (7, "archiver: model_store/.resnet50.partial: Permission denied.\n")


def test_a_wildcard_without_match_is_a_note(capsys):
    code, _, err = archiver("--model-name m -v 1 --handler h --extra-files *.none", capsys)
    assert (code, err) == (0, "archiver: note: no file matches *.none\n")


def test_an_interrupt_is_code_130_and_leaves_nothing():
    with Path("big.pt").open("wb") as file:
        file.truncate(4_000_000_000)
    with subprocess.Popen(
        [*COMMAND, *f"{LARGE} --export-path store".split()],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not list(Path().glob("store/.m.mar.*.partial")):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "archiver: interrupted; nothing was written.\n"
    assert process.returncode == 130
    assert list(Path("store").iterdir()) == []


def test_an_interrupt_in_the_making_of_an_archive_says_nothing_else(capsys, monkeypatch):
    class Half(zipfile.ZipFile):
        def __init__(self):
            self.fp = io.BytesIO()
            raise KeyboardInterrupt  # __del__ misses what __init__ did not get to

    heard = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    monkeypatch.setattr(cli, "pack", lambda *_, **__: Half())

    code, _, err = archiver(PACK, capsys)

    assert (code, err, heard) == (130, "archiver: interrupted; nothing was written.\n", [])


def test_output_that_nobody_reads_is_no_error():
    cli.main(PACK.split())
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [*COMMAND, "inspect", "model_store/resnet50.mar"],
        env=ENVIRONMENT,
        stdout=write_end,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_long_pack_shows_its_progress_on_a_terminal():
    with Path("big.pt").open("wb") as file:
        file.truncate(70 * 1024 * 1024)
    parent, child = pty.openpty()
    done = subprocess.run(
        [*COMMAND, *LARGE.split()],
        env=ENVIRONMENT,
        stderr=child,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    os.close(child)
    shown = os.read(parent, 100_000).decode()
    os.close(parent)
    assert "\rpacking  50 % of 70.0 MiB" in shown
    assert "packing 100 % of 70.0 MiB" in shown
    assert done.stdout == "m.mar: m 1, 2 files, 70.0 MiB\n"
