"""What framing needs beside a parser: ambiguous heads, heads without upgrade, chunks. Pure."""

from __future__ import annotations

from marserve.servers.request_head import Field

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """`data` as one chunk; it must not be empty, for an empty chunk is the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def is_unambiguous(headers: list[Field]) -> bool:
    """Whether everybody on the way must understand the head alike: one host, plain chunks."""
    hosts = 0
    for name, value in headers:
        match len(name), name.lower():
            case 4, b"host":
                hosts += 1
            case 17, b"transfer-encoding" if _codings(value) != [b"chunked"]:
                return False
    return hosts <= 1


def without_upgrade(method: bytes, target: bytes, version: str, headers: list[Field]) -> bytes:
    """The head that asked for another protocol, less that wish, to be parsed again.

    A parser reads no body after such a head, and would take the body for a request. None but this
    protocol is spoken here, in which the client then goes on (RFC 9110, 7.8).
    """
    lines = [b"%s %s HTTP/%s" % (method, target, version.encode())]
    lines += [b"%s: %s" % field for field in headers if field[0].lower() != b"upgrade"]
    return b"\r\n".join((*lines, b"", b""))


def _codings(value: bytes) -> list[bytes]:
    """The elements of a list field; empty ones do not count."""
    elements = [element.strip(b" \t").lower() for element in value.split(b",")]
    return [element for element in elements if element]
