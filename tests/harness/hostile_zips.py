"""Zip files that must be refused, by what is wrong with them: name → (reason, content)."""

from __future__ import annotations

import stat
import struct

from forged_zip import (
    DATA,
    DEFLATED,
    KIB,
    MIB,
    Entry,
    build,
    deflate,
    descriptor,
    streamed,
    unix,
    wide,
    with_end64,
)

ZIPS: dict[str, tuple[str, bytes]] = {
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
