import subprocess
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.registry.pins import PinsInvalid, parse

A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("text", "pins"),
    [
        ("", {}),
        (f"{A}  m.mar\n", {"m.mar": A}),
        (f"{A} *m.mar", {"m.mar": A}),
        (
            f"{A.upper()}  ./m.mar\r\n\n# made by hand\n{B}  with space.mar\n",
            {"m.mar": A, "with space.mar": B},
        ),
        (f"SHA256 (m.mar) = {A}\n", {"m.mar": A}),
        (f"{A}  m.mar\n{A}  m.mar\n", {"m.mar": A}),
    ],
)
def test_lists_as_sha256sum_writes_them_are_read(text, pins):
    assert parse(text.encode()) == pins


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{A}".encode(), "line 1 is not a digest and a name"),
        (f"{A} m.mar".encode(), "line 1 is not a digest and a name"),
        (f"{A}  x\n{A[:-1]}  m.mar".encode(), "line 2 is not a digest and a name"),
        (f"\\{A}  a\\nb".encode(), "line 1 is not a digest and a name"),
        (f"{A}  m.mar\n{B}  m.mar".encode(), "line 2 says something else of 'm.mar'"),
        (b"\xff", "it is not UTF-8"),
        (b"#" * (1 << 20) + b"#", "it is larger than"),
    ],
)
def test_a_list_that_is_not_understood_whole_is_refused(content, message):
    with pytest.raises(PinsInvalid, match=message):
        parse(content)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_list_or_one_error(content):
    with suppress(PinsInvalid):
        assert all(len(digest) == 64 for digest in parse(content).values())


def test_what_the_tool_itself_writes_is_read(tmp_path):
    (tmp_path / "m.mar").write_bytes(b"x")
    for option in ("--text", "--binary", "--tag"):
        listed = subprocess.run(
            ["sha256sum", option, "m.mar"], cwd=tmp_path, capture_output=True, check=True
        )
        assert list(parse(listed.stdout)) == ["m.mar"]
