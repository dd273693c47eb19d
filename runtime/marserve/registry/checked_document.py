"""A JSON document with a format number and a checksum over its content. Pure.

A torn or edited file is so noticed instead of half believed. Both files of the state folder are
such documents.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec


class DocumentInvalid(Exception):
    """The document is not one that this server wrote; `str(error)` is half a sentence."""


def dump(content: object, format_: int, key: str) -> bytes:
    """The document, for people to read and `load` to take back; `key` names the content."""
    plain = msgspec.to_builtins(content)
    document = {"format": format_, "sha256": _checksum(plain), key: plain}
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def load(document: bytes, format_: int, key: str) -> Any:
    """The plain content that `dump` was given.

    Raises:
        DocumentInvalid: with the reason.
    """
    try:
        decoded: Any = msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentInvalid(f"it is not JSON: {error}") from error
    if not isinstance(decoded, dict) or decoded.get("format") != format_:
        raise DocumentInvalid(f"it is not a document of format {format_} with {key}")
    content = decoded.get(key)
    if decoded.get("sha256") != _checksum(content):
        raise DocumentInvalid("its checksum does not fit its content")
    return content


def _checksum(content: object) -> str:
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()
