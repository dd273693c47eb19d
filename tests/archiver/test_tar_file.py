import gzip
import io
import tarfile

import pytest

from marserve_archiver import Limits, open_archive
from marserve_archiver.errors import ArchiveError

MIB = 1024 * 1024
MANIFEST = b'{"model": {"modelName": "m"}}'


def member(name: str, data: bytes = b"hello", kind: bytes = tarfile.REGTYPE, **fields):
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    entry.type = kind
    for key, value in fields.items():
        setattr(entry, key, value)
    return entry, data


def directory(name: str, **fields):
    return member(name, b"", tarfile.DIRTYPE, **fields)


def tar(*members, layout: int = tarfile.PAX_FORMAT, headers: dict | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=layout, pax_headers=headers) as archive:
        for entry, data in members:
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def tgz(*members, **options) -> bytes:
    return gzip.compress(tar(*members, **options), mtime=0)


def patched(content: bytes, at: int, value: bytes) -> bytes:
    """A tar file with a field of its first header replaced and the checksum made right again."""
    header = bytearray(content[:512])
    header[at : at + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return gzip.compress(bytes(header) + content[512:])


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

HOSTILE = {
    "absolute": ("unsafe-path", tgz(member("/etc/x"))),
    "parent": ("unsafe-path", tgz(member("../evil"))),
    "parent as the top directory": ("unsafe-path", tgz(member("../a"), member("../b"))),
    "parent behind the top directory": ("unsafe-path", tgz(member("top/../../x"), member("top/b"))),
    "parent behind a dot": ("unsafe-path", tgz(member("./../evil"))),
    "sibling prefix": ("unsafe-path", tgz(member("../target-evil/x"))),
    "backslash": ("unsafe-path", tgz(member("..\\evil"))),
    "parent in a pax header": ("unsafe-path", tgz(member("a", pax_headers={"path": "../evil"}))),
    "parent in a GNU name": (
        "unsafe-path",
        tgz(member("../" + "x" * 120), layout=tarfile.GNU_FORMAT),
    ),
    "control character": ("unsafe-name", tgz(member("a\x07b"))),
    "false UTF-8": ("unsafe-name", patched(tar(member("a")), 0, b"\xff\xfe")),
    "device name": ("unsafe-name", tgz(member("aux"), member("b"))),
    "long part": ("name-too-long", tgz(member("x" * 300))),
    "huge extended header": ("name-too-long", tgz(member("x" * 70_000))),
    "deep": ("too-deep", tgz(member("/".join("a" * 40)), member("b"))),
    "twice": ("duplicate-name", tgz(member("a"), member("a"))),
    "twice in another case": ("duplicate-name", tgz(member("a"), member("A"))),
    "twice, once with a dot": ("duplicate-name", tgz(member("a"), member("./a"))),
    "file and directory": ("file-and-directory", tgz(member("a"), member("a/b"))),
    "symbolic link": ("link", tgz(member("a", b"", tarfile.SYMTYPE, linkname="/etc/passwd"))),
    "link, then a file through it": (
        "link",
        tgz(member("d", b"", tarfile.SYMTYPE, linkname="/tmp"), member("d/evil")),
    ),
    "hard link": ("link", tgz(member("b"), member("a", b"", tarfile.LNKTYPE, linkname="b"))),
    "long link": (
        "link",
        tgz(member("a", b"", tarfile.SYMTYPE, linkname="x" * 150), layout=tarfile.GNU_FORMAT),
    ),
    "character device": ("special-file", tgz(member("a", b"", tarfile.CHRTYPE))),
    "block device": ("special-file", tgz(member("a", b"", tarfile.BLKTYPE))),
    "named pipe": ("special-file", tgz(member("a", b"", tarfile.FIFOTYPE))),
    "sparse file": ("special-file", tgz(member("a", b"", tarfile.GNUTYPE_SPARSE))),
    "sparse file by pax": ("special-file", tgz(member("a", pax_headers={"GNU.sparse.size": "9"}))),
    "unknown type": ("special-file", tgz(member("a", b"", b"Z"))),
    "setuid": ("special-mode", tgz(member("a", mode=0o4755))),
    "setgid": ("special-mode", tgz(member("a", mode=0o2755))),
    "directory with content": ("header-mismatch", patched(tar(member("d")), 156, b"5")),
    "one name for all": ("header-mismatch", tgz(member("a"), headers={"path": "b"})),
    "checksum wrong": (
        "bad-structure",
        gzip.compress(b"X" + tar(member("a"))[1:]),
    ),
    "size no number": ("bad-structure", patched(tar(member("a")), 124, b"zzz")),
    "size negative": ("bad-structure", patched(tar(member("a")), 124, b"\xff" * 12)),
    "size beyond the end": ("truncated", patched(tar(member("a")), 124, b"77777777777")),
    "size from here to the moon": (
        "truncated",
        patched(tar(member("a")), 124, b"\x80" + b"\x7f" * 11),
    ),
    "pax size no number": ("bad-structure", tgz(member("a", pax_headers={"size": "-1"}))),
    "no tar inside": ("bad-structure", gzip.compress(b"x" * 1024)),
    "nothing inside": ("truncated", gzip.compress(b"")),
    "no end": ("truncated", gzip.compress(tar(member("a"))[:1024])),
    "cut short": ("truncated", tgz(member("a", bytes(range(256)) * 99))[:-40]),
    "gzip damaged": ("bad-data", tgz(member("a"))[:12] + b"\xff" * 20),
    "gzip checksum wrong": ("bad-data", tgz(member("a"))[:-8] + bytes(4) + tgz(member("a"))[-4:]),
    "bytes behind the gzip stream": ("trailing-data", tgz(member("a")) + b"junk"),
    "data behind the end": (
        "trailing-data",
        gzip.compress(tar(member("a")) + tar(member("b"))),
    ),
    "neither gzip nor zip": ("not-an-archive", b"plain"),
    "bomb": ("bomb", gzip.compress(tar(member("a", bytes(30 * MIB))))),
    "bomb behind the end": ("bomb", gzip.compress(tar(member("a")) + bytes(30 * MIB))),
    "manifest names what is not there": (
        "missing-file",
        tgz(member("MAR-INF/MANIFEST.json", b'{"model": {"handler": "h.py"}}')),
    ),
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


@pytest.mark.parametrize(("reason", "content"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_is_written(reason, content, tmp_path):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(content)
    (tmp_path / "target-evil").mkdir()
    with pytest.raises(ArchiveError) as caught, open_archive(path) as archive:
        archive.extract(tmp_path / "target")
    assert caught.value.reason == reason
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["target-evil", "x.tar.gz"]


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
