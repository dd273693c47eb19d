"""SEC-04: every hostile archive is refused with its reason, in little time and memory.

Nothing is written outside the private folder, and nothing is left behind.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_archives import hostile_archives

HARNESS = Path(__file__).parents[1] / "harness"
MAX_ONE_S = 2.0
MAX_MEMORY_MIB = 64


def listing(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a folder, with what would change if it were touched."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            # the folder of an archive has the private one in it for a while
            0 if path.parent == folder / "cases" else path.lstat().st_size,
            0 if path.parent == folder / "cases" else path.lstat().st_mtime_ns,
        )
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def judgement(tmp_path_factory):
    """What became of each archive, and what lay around them before and afterwards."""
    root = tmp_path_factory.mktemp("hostile")
    cases = hostile_archives()
    for index, case in enumerate(cases):
        folder = root / "cases" / f"{index:04}"
        (folder / "target-evil").mkdir(parents=True)
        (folder / "secret").write_text("kept")
        case.write(folder / case.file_name)
    (root / "here").mkdir()
    before = listing(root)
    judge = subprocess.run(
        [sys.executable, str(HARNESS / "archive_judge.py"), str(root / "cases")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=root / "here",
        stdout=subprocess.PIPE,
        check=True,
    )
    found = list(json.loads(judge.stdout).values())
    return cases, found, before, listing(root)


def test_there_are_more_than_four_hundred_and_no_two_are_the_same(judgement):
    cases, _, _, _ = judgement
    assert len(cases) >= 400
    assert len({case.name for case in cases}) == len(cases)


def test_each_is_refused_for_its_own_reason(judgement):
    cases, found, _, _ = judgement
    wrong = {
        case.name: (reason, case.reason)
        for case, (reason, _, _) in zip(cases, found, strict=True)
        if reason not in case.reason.split(" or ")
    }
    assert wrong == {}


def test_nothing_is_written_and_nothing_is_left(judgement):
    _, _, before, after = judgement
    assert after == before


def test_none_takes_long_or_much_memory(judgement):
    cases, found, _, _ = judgement
    costly = {
        case.name: (round(seconds, 2), round(memory_mib))
        for case, (_, seconds, memory_mib) in zip(cases, found, strict=True)
        if seconds > MAX_ONE_S or memory_mib > MAX_MEMORY_MIB
    }
    assert costly == {}
