"""More than four hundred archives that a server must refuse, each with the reason it must name.

Made from scratch each time; nothing hostile is kept in the repository. Zip files, gzipped tar
files and folders. The tables of single tricks are `hostile_zips.py` and `hostile_tars.py`; here
are the families: every bad name in every place, every field of every header in a lie, every kind
of overlap.
"""

from __future__ import annotations

import gzip
import os
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from forged_tar import directory, member, patched, tar, tgz
from forged_zip import DATA, DEFLATED, MIB, Entry, build, deflate, streamed, unix, wide, with_end64
from hostile_tars import TARS
from hostile_zips import ZIPS

MANIFEST = "MAR-INF/MANIFEST.json"


@dataclass(frozen=True)
class Hostile:
    """One archive. `write` puts it at a path that is free; it is what its file name says."""

    name: str
    file_name: str
    reason: str
    write: Callable[[Path], object]


@cache
def hostile_archives() -> tuple[Hostile, ...]:
    """All of them, in no order that matters."""
    zips: dict[str, tuple[str, bytes]] = dict(ZIPS)
    tars: dict[str, tuple[str, bytes]] = dict(TARS)
    for name, reason, content in _zip_families():
        assert name not in zips, name
        zips[name] = (reason, content)
    for name, reason, content in _tar_families():
        assert name not in tars, name
        tars[name] = (reason, content)
    found = [_file(f"zip: {name}", "x.mar", *case) for name, case in zips.items()]
    found += [_file(f"tgz: {name}", "x.tar.gz", *case) for name, case in tars.items()]
    found += [Hostile(f"folder: {name}", "x", *case) for name, case in FOLDERS.items()]
    return tuple(found)


def _file(name: str, file_name: str, reason: str, content: bytes) -> Hostile:
    return Hostile(name, file_name, reason, lambda path: path.write_bytes(content))


# --- names ---------------------------------------------------------------------------------------

_PATHS = [
    *("..", "../x", "../../x", "a/..", "a/../x", "a/b/../../../x", "../target-evil"),
    *("/x", "//x", "/a/b", "/..", "C:x", "c:/x", "z:", "C:\\x", "\\x", "\\\\host\\share\\x"),
    *("a\\..\\x", "a\\b", "a/b\\", "..\\..\\x", "./x", "a/./x", "a/.", ".", "a//b", "a/b//c"),
    *("../.ssh/authorized_keys", "MAR-INF/../../x", "a/../MAR-INF/MANIFEST.json"),
]
_NAMES = [
    *(
        "a.",
        "a ",
        "a../b",
        "a./b",
        " /a",
        "a /b",
        "...",
        ".../../x",
        "a. ",
        "a .",
        "x/.. ",
        "x/... ",
    ),
    *("con", "CON", "Con.txt", "prn.tar.gz", "aux", "a/AUX.py", "nul ", "nul .txt", "conin$"),
    *("CONOUT$", "com1", "com1.pt", "COM9", "lpt1", "LPT9.txt", "com\u00b9", "lpt\u00b3.bin"),
    *("a\x7f", "a\x80b", "a\x9f", "a\u0085b"),
]
_LONG = {
    "a part of 256 bytes": ("name-too-long", "x" * 256),
    "a part of 256 bytes in few letters": ("name-too-long", "\u20ac" * 86),
    "a name of 513 bytes": ("name-too-long", "/".join(["x" * 100] * 5) + "/" + "y" * 9),
    "33 levels": ("too-deep", "/".join("abc"[i % 3] for i in range(33))),
    "200 levels": ("too-deep", "/".join(["d"] * 200)),
}


def _bad_names() -> Iterator[tuple[str, str]]:
    yield from ((name, "unsafe-path") for name in _PATHS)
    yield from ((name, "unsafe-name") for name in _NAMES)
    yield from ((f"a{chr(code)}b", "unsafe-name") for code in range(1, 32))


def _zip_families() -> Iterator[tuple[str, str, bytes]]:
    good = Entry(MANIFEST.encode(), b'{"model": {"modelName": "m"}}')
    for name, reason in _bad_names():
        yield f"name {name!r}", reason, build(good, Entry(name.encode()))
    for name in _PATHS:
        yield f"directory {name!r}", "unsafe-path", build(Entry(name.encode() + b"/", b""), good)
    for what, (reason, name) in _LONG.items():
        yield what, reason, build(Entry(name.encode()))
    yield from _zip_twins()
    yield from _zip_lies()
    yield from _zip_overlaps()
    yield from _zip_contents()


def _zip_twins() -> Iterator[tuple[str, str, bytes]]:
    """Two members that are one on some disk, or a file that is a directory, too."""
    pairs = [
        *(("MODEL.py", "model.py"), ("stra\u00dfe", "STRASSE"), ("\ufb01le", "FILE")),
        *(("\u00e9", "E\u0301"), ("\u212b", "\u00e5"), ("\u1e69", "s\u0323\u0307")),
        *(("a/b", "A/c"), ("d/x", "D/x"), ("\u03c3", "\u03c2")),
        ("\u0130x", "i\u0307X"),
    ]
    for one, two in pairs:
        content = build(Entry(one.encode()), Entry(two.encode()))
        yield f"twins {one!r} and {two!r}", "duplicate-name", content
    clashes = [("a", "a/b/c"), ("a/b/c", "a/b"), ("A", "a/b"), ("a", "a/")]
    for one, two in clashes:
        entries = [Entry(name.encode(), b"" if name.endswith("/") else b"x") for name in (one, two)]
        yield f"file {one!r}, directory {two!r}", "file-and-directory", build(*entries)


def _zip_lies() -> Iterator[tuple[str, str, bytes]]:
    """Every field of every header says something else than the rest."""
    for bit in range(16):
        flag = 1 << bit
        if flag in (0x0001, 0x0040, 0x2000):
            yield f"flag {bit} in both headers", "encrypted", build(Entry(flags=flag))
        if flag in (0x0001, 0x0008, 0x0020, 0x0040, 0x0800, 0x2000):
            lying = build(Entry(local={"flags": flag}))
            yield f"flag {bit} in the member's header alone", "header-mismatch", lying
    for method in (1, 2, 3, 4, 5, 6, 7, 10, 11, 13, 16, 18, 19, 20, 93, 94, 95, 96, 97, 98, 0xFFFF):
        yield f"method {method}", "unsupported-method", build(Entry(method=method))
    for name, packed, size in (("both", 4, 4), ("packed", 4, 5), ("size", 5, 4), ("none", 0, 0)):
        central = {"packed": packed, "size": size}
        reason = "header-mismatch"
        yield f"sizes of the directory: {name}", reason, build(Entry(central=central))
    for name in (b"A.txt", b"a.txt ", b"a.tx", b"b/a.txt", b"../a.txt", b"", b"a.txt\0"):
        other = build(Entry(local={"name": name}))
        yield f"the member's own name is {name!r}", "header-mismatch", other
    second = struct.pack("<HHBL", 0x7075, 5 + 8, 1, zlib.crc32(b"a.txt")) + b"../x.txt"
    yield (
        "a second name in the member's header",
        "header-mismatch",
        build(Entry(local_extra=second)),
    )
    yield (
        "a second name in both headers",
        "header-mismatch",
        build(Entry(extra=second, local_extra=second)),
    )
    yield (
        "two ZIP64 fields",
        "bad-structure",
        build(
            Entry(extra=wide(5, 5) + wide(9, 9), central={"packed": 0xFFFFFFFF, "size": 0xFFFFFFFF})
        ),
    )
    yield (
        "very many extra fields",
        "bad-structure",
        build(
            Entry(
                extra=struct.pack("<HH", 0x9999, 0) * 10_000 + wide(5), central={"size": 0xFFFFFFFF}
            )
        ),
    )
    for key in ("disk", "start"):
        for value in (1, 0xFFFF):
            record = build(Entry(), end={key: value})
            yield f"end record: {key} {value}", "multi-disk", record
    for key, value, reason in (
        ("size", 0, "leading-data"),
        ("size", 47, "leading-data"),
        ("size", 0xFFFFFFFE, "too-large"),
        ("offset", 1, "leading-data"),
        ("offset", 0xFFFFFFFE, "truncated"),
        ("comment", 1, "truncated"),
        ("comment", 0xFFFF, "truncated"),
    ):
        yield f"end record: {key} {value}", reason, build(Entry(), end={key: value})
    for key, value, reason in (
        ("length", 0, "bad-structure"),
        ("length", 2**63, "bad-structure"),
        ("at", 1, "bad-structure"),
        ("offset", 2**63, "truncated"),
        ("size", 0, "leading-data"),
    ):
        yield f"ZIP64 record: {key} {value}", reason, with_end64(Entry(), **{key: value})
    for mode in (0o120777, 0o120000):
        lying = build(Entry(data=b"../../etc/passwd", attributes=unix(mode)))
        yield f"link of mode {mode:o}", "link", lying
    for mode in (0o104755, 0o102755, 0o101777, 0o107777, 0o104000):
        yield f"mode {mode:o}", "special-mode", build(Entry(attributes=unix(mode)))
    for kind in (0o010000, 0o020000, 0o060000, 0o140000, 0o030000, 0o170000):
        yield f"type {kind:o}", "special-file", build(Entry(attributes=unix(kind)))


def _zip_overlaps() -> Iterator[tuple[str, str, bytes]]:
    """Bytes that belong to two members, to none, or to another archive."""
    for count in (2, 50, 1000):
        rows = [Entry(b"%d" % n, DATA, DEFLATED) for n in range(count)]
        yield f"{count} rows for one member", "overlap", build(*rows, same_local=True)
    yield "quoted overlap bomb", "overlap", _quoted_overlap(30)
    for over in (1, 30, 40):
        lie = {"packed": 5 + over, "size": 5 + over}
        content = build(Entry(b"a", b"x" * 5, central=lie, local=lie), Entry(b"b"))
        yield f"{over} bytes of the next member", "overlap", content
    for gap in (1, 30, 4096):
        content = build(Entry(b"a"), Entry(b"b", before=bytes(gap)))
        yield f"{gap} bytes between members", "unlisted-data", content
    for text in (b"#!/bin/sh\n", b"MZ", b"%PDF-1.4\n", bytes(512), b"PK\x03\x04"):
        content = build(Entry(), prefix=text)
        yield f"{text[:9]!r} before the first member", "leading-data", content
    for text in (b"\n", b"\0", b"PK\x05\x06", bytes(100), build(Entry(b"b"))[:-1]):
        reason = "truncated" if b"PK\x05\x06" in text else "trailing-data"
        yield f"{text[:9]!r} behind the end", reason, build(Entry(), suffix=text)
    whole = build(Entry(b"a", DATA, DEFLATED), Entry(b"b", DATA))
    for part in range(1, 12):
        yield f"cut after {part} of 12 parts", "truncated", whole[: len(whole) * part // 12]


def _quoted_overlap(count: int) -> bytes:
    """Each member holds, as stored deflate blocks, the headers of all that follow (D. Fifield)."""
    kernel = Entry(b"%04d" % count, bytes(MIB), DEFLATED)
    body = kernel.local_header() + kernel.packed_bytes()
    data, entries, offsets = kernel.data, [kernel], [0]
    for index in reversed(range(count)):
        header = body[: len(entries[0].local_header())]
        quote = struct.pack("<BHH", 0, len(header), len(header) ^ 0xFFFF)
        data = header + data
        packed = quote + body
        entry = Entry(b"%04d" % index, data, DEFLATED, packed=packed)
        body = entry.local_header() + quote + body
        step = len(entry.local_header()) + len(quote)
        entries, offsets = [entry, *entries], [0, *(at + step for at in offsets)]
    rows = b"".join(one.central_header(at) for one, at in zip(entries, offsets, strict=True))
    end = (b"PK\x05\x06", 0, 0, len(entries), len(entries), len(rows), len(body), 0)
    return body + rows + struct.pack("<4s4H2LH", *end)


def _zip_contents() -> Iterator[tuple[str, str, bytes]]:
    """What only reading the members shows, and what their manifest says."""
    packed = deflate(DATA)
    for at in range(0, len(packed), max(1, len(packed) // 8)):
        broken = bytearray(packed)
        broken[at] ^= 0xFF
        content = build(Entry(b"a", DATA, DEFLATED, packed=bytes(broken)))
        yield f"byte {at} of a stream", _BROKEN_STREAM, content
    yield "a member of 200 MiB in 200 KiB", "bomb", build(_bomb(200))
    yield (
        "a streamed bomb",
        "bomb",
        build(
            streamed(bytes(30 * MIB), struct.pack("<4sLLL", b"PK\x07\x08", *_facts(30))),
            Entry(b"b"),
        ),
    )
    yield (
        "a bomb that declares little",
        "bad-size",
        build(Entry(b"a", b"x" * 100, DEFLATED, packed=deflate(bytes(50 * MIB)))),
    )
    manifests = {
        "no object": ("bad-manifest", b"[]"),
        "nothing": ("bad-manifest", b""),
        "not UTF-8": ("bad-manifest", b'{"a": "\xff"}'),
        "UTF-16": ("bad-manifest", '{"model": {}}'.encode("utf-16")),
        "a key twice": ("bad-manifest", b'{"model": {}, "model": {"handler": "x"}}'),
        "deep": ("bad-manifest", b"[" * 100_000),
        "deep objects": ("bad-manifest", b'{"a":' * 40_000),
        "a long number": ("bad-manifest", b'{"a": ' + b"9" * 10_000 + b"}"),
        "model no object": ("bad-manifest", b'{"model": []}'),
        "name no text": ("bad-manifest", b'{"model": {"modelName": ["a"]}}'),
        "name true": ("bad-manifest", b'{"model": {"modelName": true}}'),
        "256 KiB and one byte": ("manifest-too-large", b"{" + b" " * (256 * 1024 - 1) + b"}"),
    }
    for runtime in ("python2", "LSP ", "java", "../python", "Python"):
        text = b'{"runtime": "%s"}' % runtime.encode()
        manifests[f"runtime {runtime!r}"] = ("bad-runtime", text)
    for key in ("handler", "modelFile", "serializedFile", "requirementsFile", "configFile"):
        for name in ("../x.py", "/etc/x.py", "a\\\\x.py", "gone.py", "nul.py"):
            reason = "missing-file" if name == "gone.py" else "bad-manifest"
            text = b'{"model": {"%s": "%s"}}' % (key.encode(), name.encode())
            manifests[f"{key} is {name!r}"] = (reason, text)
    for what, (reason, text) in manifests.items():
        yield f"manifest: {what}", reason, build(Entry(MANIFEST.encode(), text))


_BROKEN_STREAM = "bad-data or bad-size or bad-checksum"


def _bomb(size_mib: int) -> Entry:
    return Entry(b"zeros", bytes(size_mib * MIB), DEFLATED)


def _facts(size_mib: int) -> tuple[int, int, int]:
    zeros = bytes(size_mib * MIB)
    return zlib.crc32(zeros), len(deflate(zeros)), len(zeros)


# --- gzipped tar files ---------------------------------------------------------------------------


def _tar_families() -> Iterator[tuple[str, str, bytes]]:
    other = member("other")
    for name, reason in _bad_names():
        if name.startswith("./") or name == ".":  # tar writes "./" before everything
            continue
        yield f"name {name!r}", reason, tgz(member(name), other)
        if reason == "unsafe-path" and not name.endswith("/"):
            content = tgz(member("a", pax_headers={"path": name}), other)
            yield f"pax name {name!r}", reason, content
    for what, (reason, name) in _LONG.items():
        yield what, reason, tgz(member(name), other)
    for kind in (b"1", b"2", b"K"):
        yield f"link of type {kind!r}", "link", patched(tar(member("a", b""), other), 156, kind)
    for kind in (b"3", b"4", b"6", b"A", b"D", b"M", b"N", b"S", b"V", b"X", b"z", b"\x01"):
        content = patched(tar(member("a", b""), other), 156, kind)
        yield f"special file of type {kind!r}", "special-file", content
    for field, at, size in (("size", 124, 12), ("checksum", 148, 8), ("mode", 100, 8)):
        for text in (b"9" * size, b"-1" + b" " * (size - 2), b"\xff" * size):
            content = _raw_patched(tar(member("a"), other), at, text)
            yield f"{field} {text[:3]!r}", "bad-structure", content
    yield "endless extended headers", "bad-structure", gzip.compress(_pax_header() * 2000)
    yield "endless global headers", "bad-structure", gzip.compress(_pax_header(b"g") * 2000)
    yield "pax record without end", "bad-structure", gzip.compress(_pax_header(b"x", b"99 a=b\n"))
    yield "pax record of no length", "bad-structure", gzip.compress(_pax_header(b"x", b"0 a=b\n"))
    yield "60,000 empty gzip parts", "too-many-members", gzip.compress(b"", mtime=0) * 60_000
    yield (
        "many tiny gzip parts",
        "truncated",
        b"".join(gzip.compress(tar(member("a"))[at : at + 1]) for at in range(700)),
    )
    whole = tgz(member("a", os.urandom(2000)), member("b"))
    for part in range(1, 12):
        yield f"cut after {part} of 12 parts", "truncated", whole[: len(whole) * part // 12]
    for one, two in (("a", "A"), ("\u00e9", "e\u0301"), ("x/y", "X/z")):
        content = tgz(member(one), member(two), other)
        yield f"twins {one!r} and {two!r}", "duplicate-name", content
    yield "directory and file", "file-and-directory", tgz(directory("a"), member("a"), other)
    yield "30 bombs", "bomb", gzip.compress(tar(*(member(f"{n}", bytes(MIB)) for n in range(30))))


def _pax_header(kind: bytes = b"x", content: bytes = b"") -> bytes:
    entry = tarfile.TarInfo("x")
    entry.type = kind
    entry.size = len(content)
    return entry.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


def _raw_patched(content: bytes, at: int, value: bytes) -> bytes:
    """A field of the first header replaced; the checksum is right unless it is that field."""
    if at != 148:
        return patched(content, at, value)
    return gzip.compress(content[:148] + value + content[156:])


# --- folders -------------------------------------------------------------------------------------


def _folder(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.mkdir()
        (path / "handler.py").write_text("")
        (path / "data").mkdir()
        (path / "data" / "x").write_text("x")
        make(path)

    return write


def _link_farm(path: Path) -> None:
    """Thirty folders, each with two links to the next: a thousand million ways to the last."""
    for level in range(30):
        (path / f"d{level}").mkdir()
    for level in range(29):
        for name in ("a", "b"):
            (path / f"d{level}" / name).symlink_to(f"../d{level + 1}")


def _manifest(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        (path / "MAR-INF").mkdir()
        (path / MANIFEST).write_text(text)

    return _folder(write)


def _deep(path: Path) -> None:
    (path / "/".join(["d"] * 40)).mkdir(parents=True)


FOLDERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a link out of it": ("link", _folder(lambda p: (p / "l").symlink_to("../secret"))),
    "a link to /etc": ("link", _folder(lambda p: (p / "l").symlink_to("/etc"))),
    "a link to its own folder": ("link", _folder(lambda p: (p / "data/l").symlink_to("."))),
    "a link to the folder above": ("link", _folder(lambda p: (p / "data/l").symlink_to(".."))),
    "a link to nothing": ("unreadable", _folder(lambda p: (p / "l").symlink_to("gone"))),
    "a link to itself": ("unreadable", _folder(lambda p: (p / "l").symlink_to("l"))),
    "two links to each other": (
        "unreadable",
        _folder(lambda p: ((p / "l").symlink_to("m"), (p / "m").symlink_to("l"))),
    ),
    "a farm of links": ("too-many-members", _folder(_link_farm)),
    "a named pipe": ("special-file", _folder(lambda p: os.mkfifo(p / "pipe"))),
    "40 levels": ("too-deep", _folder(_deep)),
    "twins": ("duplicate-name", _folder(lambda p: (p / "Handler.py").write_text(""))),
    "a device": ("unsafe-name", _folder(lambda p: (p / "nul.txt").write_text(""))),
    "a control character": ("unsafe-name", _folder(lambda p: (p / "a\nb").write_text(""))),
    "a backslash": ("unsafe-path", _folder(lambda p: (p / "a\\b").write_text(""))),
    "a name that is no UTF-8": (
        "unsafe-name",
        _folder(lambda p: Path(os.fsdecode(os.fsencode(p) + b"/\xff")).write_text("")),
    ),
    "a manifest that names what is elsewhere": (
        "bad-manifest",
        _manifest('{"model": {"handler": "../../h.py"}}'),
    ),
    "a manifest that names what is not there": (
        "missing-file",
        _manifest('{"model": {"handler": "gone.py"}}'),
    ),
    "a manifest that is huge": ("manifest-too-large", _manifest(" " * 300_000)),
}
