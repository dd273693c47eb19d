import io
from pathlib import Path

import pytest
import zipfile_deflate64
from forged_zip import (
    DATA,
    DEFLATED,
    Entry,
    build,
    deflate,
    descriptor,
    streamed,
)
from honest_zips import HONEST

from marserve_archiver import Limits, open_archive
from marserve_archiver.errors import ArchiveError, Malformed
from marserve_archiver.zip_directory import read_directory


@pytest.mark.parametrize("content", HONEST.values(), ids=HONEST)
def test_what_we_accept_python_reads_the_same(content, tmp_path):
    (tmp_path / "x.mar").write_bytes(content)
    with open_archive(tmp_path / "x.mar") as archive:
        ours = {m.name: archive.read(m) for m in archive.members if not m.is_directory}
        archive.extract(tmp_path / "target")
    with zipfile_deflate64.ZipFile(io.BytesIO(content)) as reference:
        theirs = [reference.read(i) for i in reference.infolist() if not i.is_dir()]
    assert sorted(ours.values()) == sorted(theirs)
    assert {name: (tmp_path / "target" / name).read_bytes() for name in ours} == ours


def test_too_many_members_are_refused_by_the_count_alone(tmp_path):
    (tmp_path / "x.mar").write_bytes(build(*(Entry(b"%d" % n) for n in range(4))))
    with pytest.raises(ArchiveError) as caught:
        open_archive(tmp_path / "x.mar", Limits(max_members=3))
    assert caught.value.reason == "too-many-members"


def test_members_come_in_the_order_of_their_bytes():
    content = bytearray(build(Entry(b"b"), Entry(b"a")))
    at = content.index(b"PK\x01\x02")
    row_bytes = 46 + 1
    rows = content[at : at + row_bytes], content[at + row_bytes : at + 2 * row_bytes]
    content[at : at + 2 * row_bytes] = rows[1] + rows[0]
    members = read_directory(io.BytesIO(content), Limits())
    assert [member.name for member in members] == ["b", "a"]


def sample() -> bytes:
    return build(
        Entry(b"MAR-INF/MANIFEST.json", b'{"model": {"modelName": "m"}}', DEFLATED),
        Entry(b"d/", b""),
        Entry(b"d/weights.bin", b"0123456789" * 4),
        streamed(DATA, descriptor(DATA, deflate(DATA))),
    )


def content_of(path: Path) -> dict[str, bytes] | None:
    """All that an archive holds; None when it is refused. Any other exception is a defect."""
    try:
        with open_archive(path) as archive:
            return {m.name: archive.read(m) for m in archive.members if not m.is_directory}
    except ArchiveError:
        return None


def test_no_truncation_is_accepted(tmp_path):
    path = tmp_path / "x.mar"
    whole = sample()
    accepted = []
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if content_of(path) is not None:
            accepted.append(length)
    assert accepted == []


def test_a_flipped_bit_is_refused_or_changes_no_content(tmp_path):
    path = tmp_path / "x.mar"
    whole = sample()
    path.write_bytes(whole)
    expected = content_of(path)
    assert expected is not None
    for at in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            assert content_of(path) in (None, expected), f"byte {at}, bit {bit}"


def test_a_zip_that_is_none_says_so_before_anything_else():
    with pytest.raises(Malformed, match="is not a zip archive"):
        read_directory(io.BytesIO(b"plain text"), Limits())
