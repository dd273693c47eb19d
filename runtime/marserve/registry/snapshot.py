"""Wanted state to JSON and back, for restarts. Pure.

The document carries a format number and a checksum over its content, so that a torn or edited
file is noticed instead of half believed.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from marserve.errors import InvalidInput
from marserve.refs import checked_ref
from marserve.registry.wanted import Wanted, WantedModel

FORMAT = 1


class SnapshotInvalid(Exception):
    """The document is not a snapshot that this server wrote."""


def dump(wanted: Wanted) -> bytes:
    """The document, for people to read and `load` to take back."""
    content = msgspec.to_builtins(wanted.models)
    document = {"format": FORMAT, "sha256": _checksum(content), "models": content}
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def load(document: bytes) -> Wanted:
    """What `dump` was given.

    Raises:
        SnapshotInvalid: with the reason, as half a sentence.
    """
    try:
        decoded: Any = msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SnapshotInvalid(f"it is not JSON: {error}") from error
    if not isinstance(decoded, dict) or decoded.get("format") != FORMAT:
        raise SnapshotInvalid(f"it is not a snapshot of format {FORMAT}")
    content = decoded.get("models")
    if decoded.get("sha256") != _checksum(content):
        raise SnapshotInvalid("its checksum does not fit its content")
    try:
        models = msgspec.convert(content, dict[str, WantedModel], strict=True)
        for name, model in models.items():
            _check(name, model)
    except (msgspec.ValidationError, InvalidInput) as error:
        raise SnapshotInvalid(f"it does not fit: {error}") from error
    return Wanted(models)


def _check(name: str, model: WantedModel) -> None:
    for version in model.versions:
        checked_ref(name, version)
    if model.default not in model.versions:
        raise InvalidInput(f"the default version {model.default} of {name} is not among them")


def _checksum(content: object) -> str:
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()
