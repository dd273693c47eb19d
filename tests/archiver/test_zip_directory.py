import io
import stat
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import zipfile_deflate64

from marserve_archiver import Limits, open_archive
from marserve_archiver.errors import ArchiveError, Malformed
from marserve_archiver.zip_directory import read_directory

KIB, MIB = 1024, 1024 * 1024
DEFLATED = 8


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@dataclass
class Entry:
    """One member of a zip file in which every field of both headers can lie."""

    name: bytes = b"a.txt"
    data: bytes = b"hello"
    method: int = 0
    flags: int = 0
    attributes: int = 0
    extra: bytes = b""
    local_extra: bytes = b""
    packed: bytes | None = None
    descriptor: bytes = b""
    before: bytes = b""
    comment: bytes = b""
    local: dict = field(default_factory=dict)
    central: dict = field(default_factory=dict)

    def facts(self) -> dict:
        packed = self.packed_bytes()
        return {
            "name": self.name,
            "flags": self.flags,
            "method": self.method,
            "crc": zlib.crc32(self.data),
            "packed": len(packed),
            "size": len(self.data),
        }

    def packed_bytes(self) -> bytes:
        if self.packed is not None:
            return self.packed
        return deflate(self.data) if self.method == DEFLATED else self.data

    def local_header(self) -> bytes:
        f = self.facts() | self.local
        header = struct.pack(
            "<4s5H3L2H",
            *(b"PK\x03\x04", 20, f["flags"], f["method"], 0, 33, f["crc"], f["packed"], f["size"]),
            *(len(f["name"]), len(self.local_extra)),
        )
        return header + f["name"] + self.local_extra

    def central_header(self, offset: int) -> bytes:
        f = self.facts() | {"offset": offset, "disk": 0, "needed": 20} | self.central
        header = struct.pack(
            "<4s6H3L5H2L",
            *(b"PK\x01\x02", 0x031E, f["needed"], f["flags"], f["method"], 0, 33),
            *(f["crc"], f["packed"], f["size"], len(f["name"]), len(self.extra)),
            *(len(self.comment), f["disk"], 0, self.attributes, f["offset"]),
        )
        return header + f["name"] + self.extra + self.comment


def build(
    *entries: Entry,
    prefix: bytes = b"",
    tail: bytes = b"",
    before_end: bytes = b"",
    comment: bytes = b"",
    suffix: bytes = b"",
    same_local: bool = False,
    end: dict | None = None,
) -> bytes:
    """A zip file of these entries. `same_local`: all directory rows point at the first header."""
    body, directory = bytearray(prefix), bytearray()
    for entry in entries:
        body += entry.before
        offset = len(prefix) if same_local and directory else len(body)
        if not (same_local and directory):
            body += entry.local_header() + entry.packed_bytes() + entry.descriptor
        directory += entry.central_header(offset)
    body += tail
    f = {"disk": 0, "start": 0, "here": len(entries), "count": len(entries)}
    f |= {"size": len(directory), "offset": len(body), "comment": len(comment)} | (end or {})
    record = struct.pack(
        "<4s4H2LH",
        *(b"PK\x05\x06", f["disk"], f["start"], f["here"], f["count"]),
        *(f["size"], f["offset"], f["comment"]),
    )
    return bytes(body + directory + before_end + record + comment + suffix)


def end64(directory_bytes: int, offset: int, **lies: int) -> bytes:
    """A ZIP64 end record for one member, with its locator; `offset` is that of the directory."""
    f = {"length": 44, "count": 1, "at": offset + directory_bytes, "disks": 1, "disk": 0} | lies
    record = struct.pack(
        "<4sQ2H2L4Q",
        *(b"PK\x06\x06", f["length"], 45, 45, f["disk"], 0, f["count"], f["count"]),
        *(f.get("size", directory_bytes), f.get("offset", offset)),
    )
    return record + struct.pack("<4sLQL", b"PK\x06\x07", 0, f["at"], f["disks"])


def with_end64(entry: Entry, end: dict | None = None, **lies: int) -> bytes:
    offset = len(entry.local_header()) + len(entry.packed_bytes())
    directory_bytes = len(entry.central_header(0))
    full = {"count": 0xFFFF, "here": 0xFFFF, "size": 0xFFFFFFFF, "offset": 0xFFFFFFFF}
    return build(entry, before_end=end64(directory_bytes, offset, **lies), end=full | (end or {}))


def wide(*figures: int) -> bytes:
    return struct.pack(f"<HH{len(figures)}Q", 1, 8 * len(figures), *figures)


def descriptor(data: bytes, packed: bytes, *, mark: bool = True, is_long: bool = False) -> bytes:
    figures = struct.pack("<LQQ" if is_long else "<LLL", zlib.crc32(data), len(packed), len(data))
    return (b"PK\x07\x08" if mark else b"") + figures


def streamed(data: bytes, trailer: bytes, **options) -> Entry:
    zeros = {"crc": 0, "packed": 0, "size": 0}
    return Entry(data=data, method=DEFLATED, flags=8, descriptor=trailer, local=zeros, **options)


def unix(mode: int) -> int:
    return mode << 16


DATA = b"hello " * 50
ZERO64 = {"crc": 0, "packed": 0xFFFFFFFF, "size": 0xFFFFFFFF}

HONEST = {
    "one stored file": build(Entry()),
    "one deflated file": build(Entry(data=DATA, method=DEFLATED)),
    "no file at all": build(),
    "an empty file": build(Entry(data=b"")),
    "a directory": build(Entry(b"d/", b""), Entry(b"d/a", b"x")),
    "a directory as an empty stream": build(Entry(b"d/", b"", DEFLATED)),
    "a directory with a method but no bytes": build(Entry(b"d/", b"", DEFLATED, packed=b"")),
    "a directory with inherited setgid": build(Entry(b"d/", b"", attributes=unix(0o42755))),
    "a file with a mode": build(Entry(attributes=unix(stat.S_IFREG | 0o644))),
    "a comment": build(Entry(), comment=b"packed by hand"),
    "a comment on a member": build(Entry(comment=b"note")),
    "padding in the extra field": build(Entry(extra=b"\0\0\0", local_extra=b"\0")),
    "a name in UTF-8, flagged": build(Entry("naïve".encode(), flags=0x800)),
    "a name in UTF-8, not flagged": build(Entry("naïve".encode())),
    "a name in code page 437": build(Entry(b"na\x8bve")),
    "descriptor with mark": build(streamed(DATA, descriptor(DATA, deflate(DATA)))),
    "descriptor without mark": build(streamed(DATA, descriptor(DATA, deflate(DATA), mark=False))),
    "long descriptor": build(streamed(DATA, descriptor(DATA, deflate(DATA), is_long=True))),
    "long descriptor without mark": build(
        streamed(DATA, descriptor(DATA, deflate(DATA), is_long=True, mark=False))
    ),
    "descriptor flag, but all told in the header": build(
        Entry(data=DATA, method=DEFLATED, flags=8, descriptor=descriptor(DATA, deflate(DATA)))
    ),
    "descriptor flag without descriptor": build(Entry(data=DATA, method=DEFLATED, flags=8)),
    "descriptor of an empty file": build(streamed(b"", descriptor(b"", deflate(b"")))),
    "ZIP64 end records": with_end64(Entry()),
    "ZIP64 sizes": build(
        Entry(
            extra=wide(5, 5),
            local_extra=wide(5, 5),
            local={"packed": 0xFFFFFFFF, "size": 0xFFFFFFFF},
            central={"packed": 0xFFFFFFFF, "size": 0xFFFFFFFF},
        )
    ),
    "ZIP64 offset": build(Entry(extra=wide(0), central={"offset": 0xFFFFFFFF})),
    "Deflate64": build(Entry(data=b"hello", method=9, packed=deflate(b"hello"))),
    "an end record inside a stored member": build(Entry(b"inner.zip", build(Entry()))),
}

HOSTILE = {
    # names
    "absolute": ("unsafe-path", build(Entry(b"/etc/cron.d/x"))),
    "parent": ("unsafe-path", build(Entry(b"../evil"))),
    "parent inside": ("unsafe-path", build(Entry(b"a/../../evil"))),
    "sibling prefix": ("unsafe-path", build(Entry(b"../target-evil/x"))),
    "parent directory": ("unsafe-path", build(Entry(b"../d/", b""))),
    "backslash": ("unsafe-path", build(Entry(b"..\\evil"))),
    "drive": ("unsafe-path", build(Entry(b"C:/evil"))),
    "network share": ("unsafe-path", build(Entry(b"//host/evil"))),
    "no name": ("unsafe-path", build(Entry(b""))),
    "a bare slash": ("unsafe-path", build(Entry(b"/", b""))),
    "a dot": ("unsafe-path", build(Entry(b"./a"))),
    "control character": ("unsafe-name", build(Entry(b"a\x1b[31m"))),
    "line break": ("unsafe-name", build(Entry(b"a\nb"))),
    "NUL": ("unsafe-name", build(Entry(b"a.txt\0.png"))),
    "device": ("unsafe-name", build(Entry(b"nul.txt"))),
    "trailing dot": ("unsafe-name", build(Entry(b"a./b"))),
    "false UTF-8": ("unsafe-name", build(Entry(b"\xff\xfe", flags=0x800))),
    "long name": ("name-too-long", build(Entry(b"a/" * 20 + b"x" * 500))),
    "long part": ("name-too-long", build(Entry(b"x" * 256))),
    "deep": ("too-deep", build(Entry(b"a/" * 40 + b"x"))),
    "twice": ("duplicate-name", build(Entry(), Entry())),
    "twice in another case": ("duplicate-name", build(Entry(b"a"), Entry(b"A"))),
    "twice, composed otherwise": (
        "duplicate-name",
        build(Entry("é".encode()), Entry("e\u0301".encode())),
    ),
    "file and directory": ("file-and-directory", build(Entry(b"a"), Entry(b"a/b"))),
    "directory and file": ("file-and-directory", build(Entry(b"a/", b""), Entry(b"a"))),
    "second name in an extra field": (
        "header-mismatch",
        build(Entry(extra=struct.pack("<HHBL", 0x7075, 11, 1, 0) + b"b.evil")),
    ),
    # types
    "symbolic link": ("link", build(Entry(data=b"/etc", attributes=unix(stat.S_IFLNK | 0o777)))),
    "link to a directory": ("link", build(Entry(b"d/", b"", attributes=unix(stat.S_IFLNK)))),
    "Windows reparse point": ("link", build(Entry(attributes=0x400))),
    "device node": ("special-file", build(Entry(attributes=unix(stat.S_IFCHR)))),
    "block device": ("special-file", build(Entry(attributes=unix(stat.S_IFBLK)))),
    "named pipe": ("special-file", build(Entry(attributes=unix(stat.S_IFIFO)))),
    "socket": ("special-file", build(Entry(attributes=unix(stat.S_IFSOCK)))),
    "volume label": ("special-file", build(Entry(attributes=0x08))),
    "setuid": ("special-mode", build(Entry(attributes=unix(stat.S_IFREG | 0o4755)))),
    "setgid": ("special-mode", build(Entry(attributes=unix(stat.S_IFREG | 0o2755)))),
    "sticky": ("special-mode", build(Entry(attributes=unix(stat.S_IFREG | 0o1644)))),
    "directory by mode only": ("header-mismatch", build(Entry(attributes=unix(stat.S_IFDIR)))),
    "directory by attribute only": ("header-mismatch", build(Entry(attributes=0x10))),
    "file by mode only": ("header-mismatch", build(Entry(b"d/", b"", attributes=unix(0o100644)))),
    "directory with content": ("header-mismatch", build(Entry(b"d/", b"x"))),
    # features
    "encrypted": ("encrypted", build(Entry(flags=1))),
    "strongly encrypted": ("encrypted", build(Entry(flags=0x41))),
    "masked headers": ("encrypted", build(Entry(flags=0x2000))),
    "AES": ("encrypted", build(Entry(method=99, flags=1))),
    "patched data": ("unsupported-method", build(Entry(flags=0x20))),
    "a format newer than any": ("unsupported-method", build(Entry(central={"needed": 64}))),
    "bzip2": ("unsupported-method", build(Entry(method=12))),
    "lzma": ("unsupported-method", build(Entry(method=14))),
    "member on another disk": ("multi-disk", build(Entry(central={"disk": 1}))),
    "second disk": ("multi-disk", build(Entry(), end={"disk": 1})),
    "rows on other disks": ("multi-disk", build(Entry(), end={"count": 2})),
    # structure
    "empty file": ("not-an-archive", b""),
    "text": ("not-an-archive", b"this is no archive"),
    "gzip called .mar": ("not-an-archive", b"\x1f\x8b\x08" + bytes(100)),
    "cut in a header": ("truncated", build(Entry())[:20]),
    "cut in the data": ("truncated", build(Entry(data=bytes(1000)))[:500]),
    "cut in the directory": ("truncated", build(Entry())[:-30]),
    "cut in the end record": ("truncated", build(Entry())[:-3]),
    "cut in the comment": ("truncated", build(Entry(), comment=b"comment")[:-3]),
    "bytes before, offsets not moved": ("leading-data", b"#!/bin/sh\n" + build(Entry())),
    "bytes before, offsets moved": ("leading-data", build(Entry(), prefix=b"#!/bin/sh\n")),
    "bytes after": ("trailing-data", build(Entry(), suffix=b"x")),
    "another archive after": ("leading-data", build(Entry()) + build(Entry(b"b"))),
    "an archive in the comment": (
        "two-directories",
        build(Entry(), comment=build(), end={"comment": 22}),
    ),
    "a member between members": (
        "unlisted-data",
        build(Entry(b"a"), Entry(b"b", before=Entry(b"hidden").local_header() + b"hello")),
    ),
    "a member before the directory": (
        "unlisted-data",
        build(Entry(), tail=Entry(b"hidden").local_header() + b"hello"),
    ),
    "bytes before the end record": ("leading-data", build(Entry(), before_end=b"junk")),
    "directory too short": (
        "bad-structure",
        build(Entry(), Entry(b"b"), end={"count": 1, "here": 1}),
    ),
    "directory too long": ("bad-structure", build(Entry(), end={"count": 2, "here": 2})),
    "directory beyond its end": ("truncated", build(Entry(), end={"offset": 10_000})),
    "directory inside the data": ("leading-data", build(Entry(), end={"offset": 0})),
    "one header for two rows": ("overlap", build(Entry(), Entry(b"b"), same_local=True)),
    "200 rows for one header": (
        "overlap",
        build(*(Entry(b"%d" % n, bytes(MIB), DEFLATED) for n in range(200)), same_local=True),
    ),
    "member over the next": (
        "overlap",
        build(
            Entry(
                b"a", b"x" * 5, central={"packed": 50, "size": 50}, local={"packed": 50, "size": 50}
            ),
            Entry(b"b"),
        ),
    ),
    "member over the directory": (
        "overlap",
        build(Entry(central={"packed": 99, "size": 99}, local={"packed": 99, "size": 99})),
    ),
    "row points into nothing": ("leading-data", build(Entry(central={"offset": 3}))),
    "no local header": ("bad-structure", build(Entry())[:0] + b"XX" + build(Entry())[2:]),
    # two headers, two stories
    "another name": ("header-mismatch", build(Entry(local={"name": b"b.txt"}))),
    "another method": ("header-mismatch", build(Entry(local={"method": 8}))),
    "another size": ("header-mismatch", build(Entry(local={"size": 6}))),
    "another packed size": ("header-mismatch", build(Entry(local={"packed": 4}))),
    "another checksum": ("header-mismatch", build(Entry(local={"crc": 1}))),
    "encrypted in one header": ("header-mismatch", build(Entry(local={"flags": 1}))),
    "streamed in one header": ("header-mismatch", build(Entry(local={"flags": 8}))),
    "another encoding": ("header-mismatch", build(Entry(local={"flags": 0x800}))),
    "stored with two sizes": ("header-mismatch", build(Entry(packed=b"hell"))),
    "another descriptor": (
        "header-mismatch",
        build(streamed(DATA, descriptor(b"other", deflate(DATA)))),
    ),
    "a descriptor of odd length": (
        "unlisted-data",
        build(streamed(DATA, descriptor(DATA, deflate(DATA)) + b"x")),
    ),
    "no descriptor": ("unlisted-data", build(streamed(DATA, b""))),
    # ZIP64
    "ZIP64 sizes missing": ("bad-structure", build(Entry(central={"size": 0xFFFFFFFF}))),
    "ZIP64 size is huge": (
        "header-mismatch",
        build(Entry(extra=wide(2**63, 2**63), central={"packed": 0xFFFFFFFF, "size": 0xFFFFFFFF})),
    ),
    "extra field too long": (
        "bad-structure",
        build(Entry(extra=struct.pack("<HH", 1, 99), central={"size": 0xFFFFFFFF})),
    ),
    "ZIP64 locator points elsewhere": ("bad-structure", with_end64(Entry(), at=0)),
    "ZIP64 locator points behind": ("bad-structure", with_end64(Entry(), at=2**40)),
    "ZIP64 record has a gap": ("bad-structure", with_end64(Entry(), length=43)),
    "ZIP64 disks": ("multi-disk", with_end64(Entry(), disks=2)),
    "ZIP64 second disk": ("multi-disk", with_end64(Entry(), disk=1)),
    "ZIP64 tells another directory": ("two-directories", with_end64(Entry(), end={"offset": 7})),
    "ZIP64 directory is huge": ("too-large", with_end64(Entry(), size=2**40)),
    "ZIP64 count is huge": ("too-many-members", with_end64(Entry(), count=2**40)),
    # content
    "wrong checksum": ("bad-checksum", build(Entry(local={"crc": 1}, central={"crc": 1}))),
    "garbage instead of a stream": ("bad-data", build(Entry(method=DEFLATED, packed=b"\xff" * 9))),
    "stream cut short": (
        "bad-data",
        build(Entry(data=DATA, method=DEFLATED, packed=deflate(DATA)[:-4])),
    ),
    "bytes behind the stream": (
        "bad-data",
        build(Entry(data=DATA, method=DEFLATED, packed=deflate(DATA) + b"smuggled")),
    ),
    "stream longer than declared": (
        "bad-size",
        build(Entry(data=b"short", method=DEFLATED, packed=deflate(b"long" * 999))),
    ),
    "stream shorter than declared": (
        "bad-size",
        build(Entry(data=b"long" * 99, method=DEFLATED, packed=deflate(b"short"))),
    ),
    "Deflate64 garbage": ("bad-data", build(Entry(method=9, packed=b"\xff" * 9))),
    "Deflate64 cut short": (
        "bad-data",
        build(Entry(data=DATA, method=9, packed=deflate(DATA)[:-4])),
    ),
    "Deflate64 with bytes behind": (
        "bad-data",
        build(Entry(data=b"hello", method=9, packed=deflate(b"hello") + b"x")),
    ),
    # size
    "bomb": ("bomb", build(Entry(data=bytes(30 * MIB), method=DEFLATED))),
    "hidden bomb": (
        "bad-size",
        build(Entry(data=b"x", method=DEFLATED, packed=deflate(bytes(30 * MIB)))),
    ),
    "Deflate64 bomb": (
        "bomb",
        build(Entry(data=bytes(30 * MIB), method=9, packed=deflate(bytes(30 * MIB)))),
    ),
    "more than fits together": (
        "too-large",
        build(
            *(
                Entry(b"%d" % n, bytes(6 * MIB), DEFLATED, packed=bytes(40 * KIB))
                for n in range(200)
            )
        ),
    ),
    # manifest
    "manifest is no JSON": ("bad-manifest", build(Entry(b"MAR-INF/MANIFEST.json", b"{"))),
    "manifest is huge": (
        "manifest-too-large",
        build(Entry(b"MAR-INF/MANIFEST.json", b" " * 256 * KIB + b"{}")),
    ),
    "manifest is monstrous": (
        "manifest-too-large",
        build(Entry(b"MAR-INF/MANIFEST.json", b" " * MIB + b"{}")),
    ),
    "manifest names what is not there": (
        "missing-file",
        build(Entry(b"MAR-INF/MANIFEST.json", b'{"model": {"modelFile": "m.py"}}')),
    ),
    "manifest names what is elsewhere": (
        "bad-manifest",
        build(Entry(b"MAR-INF/MANIFEST.json", b'{"model": {"serializedFile": "../../key"}}')),
    ),
    "runtime unknown": (
        "bad-runtime",
        build(Entry(b"MAR-INF/MANIFEST.json", b'{"runtime": "sh"}')),
    ),
}


def listing(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a folder, with what would change if it were touched."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_size,
            path.lstat().st_mtime_ns,
        )
        for path in folder.rglob("*")
    }


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


@pytest.mark.parametrize(("reason", "content"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_is_written(reason, content, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (tmp_path / "target-evil").mkdir()
    (store / "x.mar").write_bytes(content)
    before = listing(tmp_path)
    with pytest.raises(ArchiveError) as caught, open_archive(store / "x.mar") as archive:
        archive.extract(store / "target")
    assert caught.value.reason == reason
    assert str(caught.value).endswith(".")
    after = listing(tmp_path)
    after["store"] = before["store"]  # its own time tells of the private folder that came and went
    assert after == before


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
