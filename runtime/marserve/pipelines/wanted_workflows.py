"""Which workflows are wanted, to JSON and back, for restarts. Pure.

The document is a checked one (`registry/checked_document.py`), as that of the models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from marserve.protocols.workflows import WorkflowRegistration
from marserve.registry import checked_document
from marserve.registry.checked_document import DocumentInvalid

FILE_NAME: Final = "workflows.json"
_FORMAT: Final = 1
_KEY: Final = "workflows"

WantedWorkflows = Mapping[str, WorkflowRegistration]
"""The registration of each workflow, by its name."""


def dump(wanted: WantedWorkflows) -> bytes:
    """The document, for people to read and `load` to take back."""
    return checked_document.dump(wanted, _FORMAT, _KEY)


def load(document: bytes) -> WantedWorkflows:
    """What `dump` was given.

    Raises:
        DocumentInvalid: with the reason, as half a sentence.
    """
    content = checked_document.load(document, _FORMAT, _KEY)
    try:
        return msgspec.convert(content, dict[str, WorkflowRegistration], strict=True)
    except msgspec.ValidationError as error:
        raise DocumentInvalid(f"it does not fit: {error}") from error
