"""Zip files in which every field of every header can lie."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

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


def end64(directory_bytes: int, offset: int, /, **lies: int) -> bytes:
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
