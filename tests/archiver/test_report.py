import json
from pathlib import Path

import pytest

from marserve_archiver import Manifest, Member
from marserve_archiver.report import Report, as_json, as_text, count_text, printable, size_text

REPORT = Report(
    path=Path("store/resnet.mar"),
    kind="zip",
    size_bytes=2_000_000,
    sha256="ab" * 32,
    manifest=Manifest(
        model_name="resnet",
        model_version="2.0",
        handler="handler.py:run",
        serialized_file="resnet.pt",
        other={"licence": {"spdx": "MIT"}},
    ),
    members=(
        Member("MAR-INF/MANIFEST.json", False, 300, 150, "deflated", 0, 51),
        Member("data", True, 0, 0, "stored", 0, 300),
        Member("resnet.pt", False, 1_950_000, 1_950_000, "stored", 0, 4096),
    ),
)


def test_the_text_shows_facts_first_and_files_after():
    assert as_text(REPORT).splitlines() == [
        "store/resnet.mar",
        "",
        "  model         resnet 2.0",
        "  handler       handler.py:run",
        "  weights       resnet.pt",
        "  runtime       python",
        "  format        zip, 1.9 MiB",
        "  sha256        " + "ab" * 32,
        '  licence       {"spdx": "MIT"}',
        "",
        "        size      packed  method     file",
        "       300 B       150 B  deflated   MAR-INF/MANIFEST.json",
        "     1.9 MiB     1.9 MiB  stored     resnet.pt",
        "  --------------------------------------------------------",
        "     1.9 MiB     1.9 MiB             2 files",
    ]


def test_the_json_has_every_figure_in_bytes():
    document = json.loads(as_json(REPORT))
    assert document["files"][1] == {
        "name": "resnet.pt",
        "size_bytes": 1_950_000,
        "packed_bytes": 1_950_000,
        "method": "stored",
        "offset_bytes": 4096,
    }
    assert document["manifest"]["licence"] == {"spdx": "MIT"}
    assert (document["size_bytes"], document["total_bytes"]) == (2_000_000, 1_950_300)
    assert document["sha256"] == "ab" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [("plain ü", "plain ü"), ("a\x1b[2Jb", "a\\x1b[2Jb"), ("a\u202eb", "a\\u202eb"), ("\n", "\\n")],
)
def test_nothing_an_archive_says_can_steer_a_terminal(text, expected):
    assert printable(text) == expected


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 * 1024**2, "5.0 MiB"),
        (7 * 1024**4, "7168.0 GiB"),
    ],
)
def test_sizes_are_for_people(size_bytes, expected):
    assert size_text(size_bytes) == expected


def test_one_thing_has_no_plural():
    assert (count_text(1, "file"), count_text(0, "file")) == ("1 file", "0 files")
