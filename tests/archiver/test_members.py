import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve_archiver.members import (
    DEFAULT_LIMITS,
    GIB,
    MIB,
    Limits,
    Member,
    member_problems,
    name_problem,
    size_problems,
)


def file(name: str, size_bytes: int = 0, packed_bytes: int = 0, method: str = "stored") -> Member:
    return Member(name, False, size_bytes, packed_bytes, method)


def directory(name: str) -> Member:
    return Member(name, True, 0, 0, "stored")


def reasons(*members: Member, limits: Limits = DEFAULT_LIMITS) -> list[str]:
    return [problem.reason for problem in member_problems(members, limits)]


@pytest.mark.parametrize(
    "name",
    [
        "model.py",
        "MAR-INF/MANIFEST.json",
        "a/b/c.txt",
        "weights of today.pt",
        ".gitattributes",
        "naïve.txt",
        unicodedata.normalize("NFD", "naïve.txt"),
        "模型.bin",
        "a..b",
        "...x",
        "console.py",
        "com10.txt",
        "1:2.txt",
        "x" * 255,
    ],
)
def test_an_honest_name_is_accepted(name):
    assert name_problem(name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "unsafe-path"),
        ("/etc/passwd", "unsafe-path"),
        ("//server/share", "unsafe-path"),
        ("..", "unsafe-path"),
        ("../evil", "unsafe-path"),
        ("../target-evil/x", "unsafe-path"),
        ("a/../../evil", "unsafe-path"),
        ("a/..", "unsafe-path"),
        ("./a", "unsafe-path"),
        ("a/./b", "unsafe-path"),
        ("a//b", "unsafe-path"),
        ("a/", "unsafe-path"),
        ("C:/windows", "unsafe-path"),
        ("c:evil", "unsafe-path"),
        ("..\\evil", "unsafe-path"),
        ("a\\b", "unsafe-path"),
        ("a\0b", "unsafe-name"),
        ("a\nb", "unsafe-name"),
        ("a\x1b[2Jb", "unsafe-name"),
        ("a\x7fb", "unsafe-name"),
        ("a\x85b", "unsafe-name"),
        ("a\ud800b", "unsafe-name"),
        ("a.", "unsafe-name"),
        ("a /b", "unsafe-name"),
        ("CON", "unsafe-name"),
        ("sub/aux.py", "unsafe-name"),
        ("LPT1.tar.gz", "unsafe-name"),
        ("nul .txt", "unsafe-name"),
        ("x" * 256, "name-too-long"),
        ("é" * 128, "name-too-long"),
        ("/".join(["xxxxxxxxxxxxxxxxxxxx"] * 25), "name-too-long"),
        ("/".join("a" * 33), "too-deep"),
    ],
)
def test_a_dangerous_name_is_refused_with_its_reason(name, reason):
    problem = name_problem(name)
    assert problem is not None
    assert problem.reason == reason
    assert str(problem).endswith(".")


@given(st.text(max_size=40))
def test_no_accepted_name_leaves_its_folder(name):
    if name_problem(name) is None:
        path = PurePosixPath("/private/target") / name
        assert path.is_relative_to("/private/target")
        assert path != PurePosixPath("/private/target")
        assert not set(path.parts) & {"..", "."}
        assert "\\" not in name
        assert "\0" not in name


@given(st.text(alphabet="ab./\\ :\0CON", max_size=12))
def test_a_name_made_of_tricky_letters_is_accepted_or_refused_never_an_accident(name):
    problem = name_problem(name)
    assert problem is None or problem.reason in ("unsafe-path", "unsafe-name")


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([file("a"), file("b")], []),
        ([directory("a"), file("a/b")], []),
        ([file("a/b"), directory("a")], []),
        ([file("a/x"), file("a/y"), file("a/b/z")], []),
        ([file("a"), file("a")], ["duplicate-name"]),
        ([directory("a"), directory("a")], ["duplicate-name"]),
        ([file("Model.py"), file("model.py")], ["duplicate-name"]),
        ([file("straße"), file("STRASSE")], ["duplicate-name"]),
        ([file("é"), file("e\u0301")], ["duplicate-name"]),
        ([file("Data/x"), file("data/y")], ["duplicate-name"]),
        ([directory("Data"), file("data/y")], ["duplicate-name"]),
        ([file("a"), file("a/b")], ["file-and-directory"]),
        ([file("a/b"), file("a")], ["file-and-directory"]),
        ([file("a/b/c"), file("A")], ["file-and-directory"]),
        ([directory("a"), file("a")], ["file-and-directory"]),
        ([file("a"), directory("a")], ["file-and-directory"]),
        ([file("../x"), file("b"), file("b")], ["unsafe-path", "duplicate-name"]),
    ],
)
def test_members_must_be_able_to_live_side_by_side(members, expected):
    assert reasons(*members) == expected


@given(st.lists(st.text(alphabet="aAbB/", min_size=1, max_size=6), max_size=8))
def test_accepted_members_are_distinct_in_any_case_and_no_file_is_a_parent(names):
    members = [file(name) for name in names]
    if not reasons(*members):
        folded = [name.casefold() for name in names]
        assert len(set(folded)) == len(folded)
        assert not any(one.startswith(f"{other}/") for one in folded for other in folded)


def test_no_more_members_are_looked_at_than_the_limit_allows():
    endless = (file(f"f{n}") for n in iter(int, 1))
    limits = Limits(max_members=3)
    assert [p.reason for p in member_problems(endless, limits)][-1] == "too-many-members"


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (file("small", MIB, 1, "deflated"), []),
        (file("edge", 200 * 10_000 + MIB, 10_000, "deflated"), []),
        (file("over", 200 * 10_000 + MIB + 1, 10_000, "deflated"), ["bomb"]),
        (file("over64", 200 * 10_000 + MIB + 1, 10_000, "deflate64"), ["bomb"]),
        (file("stored", 500 * MIB, 500 * MIB), []),
        (file("all", GIB + 10_001, GIB + 10_001), ["too-large"]),
    ],
)
def test_declared_sizes_are_judged_against_what_is_packed(member, expected):
    assert [p.reason for p in size_problems([member], 1000)] == expected


def test_no_archive_may_hold_more_than_the_total_however_large_it_is():
    assert Limits(max_total_bytes=5).total_bytes(10**15) == 5
