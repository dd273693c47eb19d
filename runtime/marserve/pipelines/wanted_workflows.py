"""Which workflows are wanted, to JSON and back, for restarts. Pure.

As in `registry/snapshot.py`: a format number, and a checksum over the content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from marserve.protocols.workflows import WorkflowRegistration

FILE_NAME: Final = "workflows.json"
_FORMAT: Final = 1

WantedWorkflows = Mapping[str, WorkflowRegistration]
"""The registration of each workflow, by its name."""


class WorkflowsInvalid(Exception):
    """The document is not one that this server wrote."""


def dump(wanted: WantedWorkflows) -> bytes:
    """The document, for people to read and `load` to take back."""
    content = msgspec.to_builtins(wanted)
    document = {"format": _FORMAT, "sha256": _checksum(content), "workflows": content}
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def load(document: bytes) -> WantedWorkflows:
    """What `dump` was given.

    Raises:
        WorkflowsInvalid: with the reason, as half a sentence.
    """
    try:
        decoded: Any = msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WorkflowsInvalid(f"it is not JSON: {error}") from error
    if not isinstance(decoded, dict) or decoded.get("format") != _FORMAT:
        raise WorkflowsInvalid(f"it is not a list of workflows of format {_FORMAT}")
    content = decoded.get("workflows")
    if decoded.get("sha256") != _checksum(content):
        raise WorkflowsInvalid("its checksum does not fit its content")
    try:
        return msgspec.convert(content, dict[str, WorkflowRegistration], strict=True)
    except msgspec.ValidationError as error:
        raise WorkflowsInvalid(f"it does not fit: {error}") from error


def _checksum(content: object) -> str:
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()
