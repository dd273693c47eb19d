import gzip
import tarfile

import pytest
from forged_tar import directory, member, patched, tar, tgz

from marserve_archiver import Limits, open_archive
from marserve_archiver.errors import ArchiveError

MANIFEST = b'{"model": {"modelName": "m"}}'


LONG = "/".join(["part" * 10] * 6)
HONEST = {
    "no top directory": (tgz(member("MAR-INF/MANIFEST.json", MANIFEST), member("a")), {"a"}),
    "manifest at the root, nothing else": (tgz(member("MAR-INF/MANIFEST.json", MANIFEST)), set()),
    "a top directory": (tgz(directory("top"), member("top/a"), member("top/b/c")), {"a", "b/c"}),
    "a top directory without entry": (tgz(member("top/a"), member("top/b/c")), {"a", "b/c"}),
    "dot and slash before every name": (
        tgz(directory("."), directory("./d"), member("./d/a"), member("./b")),
        {"d/a", "b"},
    ),
    "dot, slash and a top directory": (tgz(directory("./"), member("./top/a")), {"a"}),
    "files beside a directory": (tgz(member("top/a"), member("b")), {"top/a", "b"}),
    "a single file": (tgz(member("a")), {"a"}),
    "long pax names": (tgz(member(f"{LONG}/a"), member("b")), {f"{LONG}/a", "b"}),
    "long GNU names": (
        tgz(member(f"{LONG}/a"), member("b"), layout=tarfile.GNU_FORMAT),
        {f"{LONG}/a", "b"},
    ),
    "prefixed names": (
        tgz(member("d" * 90 + "/" + "a" * 90), member("b"), layout=tarfile.USTAR_FORMAT),
        {"d" * 90 + "/" + "a" * 90, "b"},
    ),
    "names in UTF-8": (tgz(member("模型"), member("b")), {"模型", "b"}),
    "global header of a version control system": (
        tgz(member("a"), member("b"), headers={"comment": "0123abc"}),
        {"a", "b"},
    ),
    "extended attributes": (
        tgz(member("a", pax_headers={"SCHILY.xattr.user.x": "y", "mtime": "1.5"})),
        {"a"},
    ),
    "a directory with inherited setgid": (tgz(directory("d", mode=0o2755), member("b")), {"b"}),
    "two gzip streams": (
        gzip.compress(tar(member("a"))[:700]) + gzip.compress(tar(member("a"))[700:]),
        {"a"},
    ),
    "a size in binary": (patched(tar(member("a")), 124, b"\x80" + (5).to_bytes(11, "big")), {"a"}),
}


@pytest.mark.parametrize(("content", "names"), HONEST.values(), ids=HONEST)
def test_what_we_accept_python_reads_the_same(content, names, tmp_path):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(content)
    with open_archive(path) as archive:
        files = [m for m in archive.members if not m.is_directory]
        assert {m.name for m in files} - {"MAR-INF/MANIFEST.json"} == names
        ours = sorted(archive.read(m) for m in files)
        archive.extract(tmp_path / "target")
    with tarfile.open(path) as reference:
        theirs = sorted(reference.extractfile(m).read() for m in reference if m.isfile())
    assert ours == theirs
    assert {n for n in names if (tmp_path / "target" / n).is_file()} == names


@pytest.mark.parametrize("name", ["", "./", "."])
def test_a_file_without_a_name_is_refused(tmp_path, name):
    path = tmp_path / "x.tgz"
    path.write_bytes(tgz(directory("./"), member("./top/a"), member(name)))
    with pytest.raises(ArchiveError) as caught:
        open_archive(path)
    assert caught.value.reason == "unsafe-name"


@pytest.mark.parametrize(("at", "width"), [(108, 8), (116, 8), (136, 12), (329, 8), (337, 8)])
def test_a_damaged_number_is_refused_even_if_nobody_needs_it(tmp_path, at, width):
    header = bytearray(tar(member("a"), member("b", b"")))
    block = header[1024:1536]
    block[at : at + width] = b"u" * width
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    header[1024:1536] = block
    path = tmp_path / "x.tgz"
    path.write_bytes(gzip.compress(bytes(header)))
    with pytest.raises(ArchiveError) as caught:
        open_archive(path)
    assert caught.value.reason == "bad-structure"


def test_too_many_members_are_refused_while_they_are_counted(tmp_path):
    path = tmp_path / "x.tgz"
    path.write_bytes(tgz(*(member(f"f{n}") for n in range(4))))
    with pytest.raises(ArchiveError) as caught:
        open_archive(path, Limits(max_members=3))
    assert caught.value.reason == "too-many-members"


def test_more_than_the_total_is_refused_while_it_inflates(tmp_path):
    path = tmp_path / "x.tgz"
    path.write_bytes(tgz(member("a", bytes(4096))))
    with pytest.raises(ArchiveError) as caught:
        open_archive(path, Limits(max_total_bytes=1000))
    assert caught.value.reason == "too-large"


def test_an_archive_rewritten_in_place_is_noticed(tmp_path):
    path = tmp_path / "x.tgz"
    path.write_bytes(tgz(member("a", b"first"), member("b")))
    with open_archive(path) as archive:
        path.write_bytes(tgz(member("a", b"other"), member("b")))
        with pytest.raises(ArchiveError) as caught:
            archive.extract(tmp_path / "target")
    assert caught.value.reason == "changed"
    assert not (tmp_path / "target").exists()


def test_no_truncation_and_no_flipped_bit_changes_content(tmp_path):
    path = tmp_path / "x.tgz"
    whole = tgz(member("MAR-INF/MANIFEST.json", MANIFEST), member("a"))

    def content():
        try:
            with open_archive(path) as archive:
                return {m.name: archive.read(m) for m in archive.members}
        except ArchiveError:
            return None

    path.write_bytes(whole)
    expected = content()
    assert expected is not None
    for at in range(len(whole)):
        path.write_bytes(whole[:at])
        assert content() is None, f"cut at {at}"
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            assert content() in (None, expected), f"byte {at}, bit {bit}"
