"""What framing needs beside a parser: which heads can be read in one way only, chunks. Pure."""

from __future__ import annotations

import re
from typing import Final

from marserve.servers.request_head import Field

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
_LENGTH: Final = re.compile(rb"[0-9]{1,19}")
_HOST: Final = re.compile(rb"[0-9A-Za-z\-._~%!$&'()*+,;=:\[\]]*")
_FORMS: Final = (b"/", b"http://", b"https://")
"""How a target begins that this server could be asked for: a path, or the whole address, which
servers must understand (RFC 9112, 3.2.2)."""


def chunk(data: bytes) -> bytes:
    """`data` as one chunk; it must not be empty, for an empty chunk is the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def is_unambiguous(method: bytes, target: bytes, version: str, headers: list[Field]) -> bool:
    """Whether everybody on the way must understand the head alike.

    One host, one plain length or chunks and never both, a target of the form that requests to a
    server have, and a version that is spoken here.
    """
    if version not in ("1.1", "1.0") or method == b"CONNECT":
        return False
    if not target.lower().startswith(_FORMS):
        return False
    hosts = lengths = codings = 0
    for name, value in headers:
        match len(name), name.lower():
            case 4, b"host":
                hosts += 1
                if not _HOST.fullmatch(value.strip(b" \t")):
                    return False
            case 14, b"content-length":
                lengths += 1
                if not _LENGTH.fullmatch(value.strip(b" \t")):
                    return False
            case 17, b"transfer-encoding":
                codings += 1
                if version == "1.0" or value.strip(b" \t").lower() != b"chunked":
                    return False
    return lengths + codings <= 1 and (hosts == 1 or (version == "1.0" and not hosts))
