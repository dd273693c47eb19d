"""What gRPC puts into HTTP/2's headers: heads of calls, heads and ends of answers. Pure.

A head is understood once for all calls that begin with the same header block.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from marserve.protocols import terms
from marserve.protocols.grpc_status import Code
from marserve.protocols.h2_headers import Fields, encoded

MAX_METADATA_BYTES: Final = 16 * 1024
"""Of all headers of a call; each counts 32 bytes more than its name and value have."""
ENCODINGS: Final = ("identity", "gzip", "deflate")
"""How messages may be compressed."""

_FIELD_BYTES = 32
_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_FORBIDDEN = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_NAME = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"[^\x00\r\n]*")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_LENGTH = re.compile(rb"[0-9]{1,18}")
_UNSAFE = re.compile(rb"[^ -$&-~]")
_CONTENT_TYPES = (b"application/grpc", b"application/grpc+proto")


@dataclass(slots=True)
class CallHead:
    """The headers of calls that begin alike, as far as anybody wants to know them."""

    path: str = ""
    """`package.Service/Method`."""
    timeout_s: float | None = None
    """How long the client waits; None: for ever."""
    encoding: str = "identity"
    """How its compressed messages are compressed."""
    authorization: str | None = None
    may_repeat: bool = True
    """False: the client says `x-no-retry: 1`."""
    said: tuple[tuple[bytes, bytes], ...] = ()
    """What the client says of the call in metadata of its own (`terms.NAMES`)."""
    body_bytes: int | None = None
    """How long the body is, where that is announced."""
    is_malformed: bool = False
    """It is no HTTP request at all."""
    http_status: int = 200
    """Anything else: it is no gRPC call, and this says why to an HTTP client."""
    is_too_large: bool = False
    """There are more metadata than may be."""
    known: Any = None
    """What a port has found out about such calls."""


MALFORMED: Final = CallHead(is_malformed=True)


def call_head(fields: Fields) -> CallHead:
    """Understand the headers of a call."""
    names: dict[bytes, bytes] = {}
    size_bytes = 0
    is_past_pseudo = False
    for name, value in fields:
        size_bytes += len(name) + len(value) + _FIELD_BYTES
        is_pseudo = name[:1] == b":"
        if is_pseudo and (is_past_pseudo or name not in _PSEUDO or name in names):
            return MALFORMED
        is_past_pseudo = not is_pseudo
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or name in _FORBIDDEN:
            return MALFORMED
        names.setdefault(name, value.strip())  # gRPC's clients send blanks around, too
    path = names.get(b":path", b"")
    if b":method" not in names or b":scheme" not in names or path[:1] != b"/":
        return MALFORMED
    if names.get(b"te", b"trailers") != b"trailers":
        return MALFORMED
    return _understood(names, path, size_bytes)


def _understood(names: dict[bytes, bytes], path: bytes, size_bytes: int) -> CallHead:
    length, timeout = names.get(b"content-length"), names.get(b"grpc-timeout")
    timed = _TIMEOUT.fullmatch(timeout) if timeout is not None else None
    if (length is not None and not _LENGTH.fullmatch(length)) or (timeout and not timed):
        return MALFORMED
    authorization = names.get(b"authorization")
    content_type = names.get(b"content-type", b"").lower().partition(b";")[0].strip()
    http_status = 200
    if names[b":method"] != b"POST":
        http_status = 405
    elif content_type not in _CONTENT_TYPES:
        http_status = 415
    return CallHead(
        path=path[1:].decode("latin-1"),
        timeout_s=int(timed[1]) * _UNITS_S[timed[2]] if timed else None,
        encoding=names.get(b"grpc-encoding", b"identity").decode("latin-1"),
        authorization=None if authorization is None else authorization.decode("latin-1"),
        may_repeat=names.get(b"x-no-retry") != b"1",
        said=tuple((name, value) for name, value in names.items() if name in terms.NAMES),
        body_bytes=None if length is None else int(length),
        http_status=http_status,
        is_too_large=size_bytes > MAX_METADATA_BYTES,
    )


# --- answers --------------------------------------------------------------------------------------

_BEGINNING: Fields = [(b":status", b"200"), (b"content-type", b"application/grpc")]
ANSWER_HEAD: Final = encoded(_BEGINNING)
"""The header block before the messages of an answer."""
OK_TRAILERS: Final = encoded([(b"grpc-status", b"0")])
"""The header block after them, when all went well."""


def trailers(
    code: Code,
    description: str,
    is_all: bool,
    reason: str | None = None,
    retry_after_s: int | None = None,
) -> bytes:
    """The header block that ends a call. `is_all`: no head was sent, and none will be.

    `reason`: one word for programs. `retry_after_s`: when it is worth trying again.
    """
    fields = list(_BEGINNING) if is_all else []
    fields.append((b"grpc-status", str(int(code)).encode()))
    if description:
        fields.append((b"grpc-message", percent_encoded(description)))
    if reason is not None:
        fields.append((b"reason", reason.encode()))
    if retry_after_s is not None:
        fields.append((b"grpc-retry-pushback-ms", str(1000 * retry_after_s).encode()))
    if code is Code.UNIMPLEMENTED:
        fields.append((b"grpc-accept-encoding", ",".join(ENCODINGS).encode()))
    return encoded(fields)


def no_grpc(http_status: int) -> bytes:
    """The header block for what is no gRPC call."""
    fields = [(b":status", str(http_status).encode()), (b"content-length", b"0")]
    if http_status == 405:
        fields.append((b"allow", b"POST"))
    return encoded(fields)


def percent_encoded(text: str) -> bytes:
    """How descriptions travel: printable ASCII but for the percent sign stays as it is."""
    return _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], text.encode("utf-8", "replace"))
