"""Gzipped tar files of any members, with any field of the first header replaced."""

from __future__ import annotations

import gzip
import io
import tarfile

MIB = 1024 * 1024


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
