import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from marserve_archiver import verify

FIXTURES = Path(__file__).parent.parent / "fixtures" / "archives"
GOOD = "def handle(data, context):\n    return data\n"


def manifest(**model) -> str:
    return json.dumps({"runtime": "python", "model": {"modelName": "m", **model}})


def mar(path: Path, **files) -> Path:
    """A zip file; `a__b_py` is the member `a/b.py`, and M is the manifest."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            member = "MAR-INF/MANIFEST.json" if name == "M" else name.replace("_py", ".py")
            archive.writestr(member, text)
    return path


def sentences(path: Path) -> list[str]:
    return [str(problem) for problem in verify(path)]


@pytest.mark.parametrize("name", sorted(p.name for p in FIXTURES.iterdir() if p.suffix != ".md"))
def test_archives_by_other_tools_are_fine(name):
    assert verify(FIXTURES / name) == ()


def test_a_folder_is_verified_like_an_archive(tmp_path):
    (tmp_path / "MAR-INF").mkdir()
    (tmp_path / "MAR-INF/MANIFEST.json").write_text(manifest(handler="handler.py"))
    assert sentences(tmp_path) == [
        "The manifest names handler 'handler.py', which is not in the archive."
    ]
    (tmp_path / "handler.py").write_text(GOOD)
    assert sentences(tmp_path) == []


def test_all_problems_are_listed_not_only_the_first(tmp_path):
    path = mar(
        tmp_path / "x.mar",
        M=manifest(
            handler="handler.py:run",
            modelFile="model.py",
            serializedFile="net.pt",
            modelVersion="1/2",
            modelName="no name",
        ),
        handler_py="def handle(data, context)\n",
        model_py="class Net:\n    x = (\n",
        **{"../evil": "x", "con": "x"},
    )
    content = path.read_bytes()
    assert sentences(path) == [
        "The member name '../evil' has the part '..'.",
        "The member name 'con' names a Windows device.",
        "The manifest's modelName 'no name' is not a legal name.",
        "The manifest's modelVersion '1/2' is not a legal version.",
        "The manifest names serializedFile 'net.pt', which is not in the archive.",
        "handler.py, line 1: expected ':'.",
        "model.py, line 2: '(' was never closed.",
    ]
    assert path.read_bytes() == content


def test_every_damaged_member_is_listed(tmp_path):
    path = mar(tmp_path / "x.mar", M=manifest(handler="h.py"), h_py=GOOD, a="aaaa", b="bbbb")
    content = path.read_bytes()
    damaged = content.replace(b"aaaa", b"aaab", 1).replace(b"bbbb", b"bbba", 1)
    path.write_bytes(damaged)
    assert sentences(path) == [
        "The member 'a' is damaged: wrong checksum.",
        "The member 'b' is damaged: wrong checksum.",
    ]


def test_a_damaged_manifest_is_one_problem(tmp_path):
    path = mar(tmp_path / "x.mar", M=manifest(handler="h.py"), h_py=GOOD)
    path.write_bytes(path.read_bytes().replace(b"python", b"pythom", 1))
    assert sentences(path) == ["The member 'MAR-INF/MANIFEST.json' is damaged: wrong checksum."]


def test_a_bomb_is_not_inflated_to_look_for_more(tmp_path):
    path = tmp_path / "x.mar"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(10_000_000))
    assert [problem.reason for problem in verify(path)] == ["bomb"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = '\\d'\n", []),  # a warning, and not ours
        ("# -*- coding: latin-1 -*-\nx = 1\n", []),
        ("x = 1\0", ["bad-python"]),
        ("(" * 300, ["bad-python"]),
        ("-" * 100_000 + "1", ["bad-python"]),
        ("# -*- coding: nothing -*-\n", ["bad-python"]),
    ],
)
def test_python_files_are_parsed_and_never_run(source, expected, tmp_path):
    path = mar(tmp_path / "x.mar", M=manifest(handler="h.py"), h_py=source)
    assert [problem.reason for problem in verify(path)] == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"text", "not-an-archive"), (b"PK\x03\x04", "truncated")],
)
def test_what_is_no_archive_is_one_problem(content, reason, tmp_path):
    (tmp_path / "x.mar").write_bytes(content)
    assert [problem.reason for problem in verify(tmp_path / "x.mar")] == [reason]


def test_a_tar_file_is_checked_for_its_files_too(tmp_path):
    (tmp_path / "M").write_text(manifest(handler="h.py"))
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
        archive.add(tmp_path / "M", "m/MAR-INF/MANIFEST.json")
    assert [problem.reason for problem in verify(tmp_path / "x.tgz")] == ["missing-file"]
