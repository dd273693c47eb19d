"""Gzipped tar files that must be refused: name → (reason, content)."""

from __future__ import annotations

import gzip
import tarfile

from forged_tar import MIB, member, patched, tar, tgz

TARS: dict[str, tuple[str, bytes]] = {
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
