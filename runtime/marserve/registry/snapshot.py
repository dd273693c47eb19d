"""Wanted state to JSON and back, for restarts. Pure.

The document is a checked one (`checked_document.py`).
"""

from __future__ import annotations

import msgspec

from marserve.errors import InvalidInput
from marserve.refs import checked_ref
from marserve.registry import checked_document
from marserve.registry.checked_document import DocumentInvalid
from marserve.registry.wanted import Wanted, WantedModel

FORMAT = 1
_KEY = "models"


def dump(wanted: Wanted) -> bytes:
    """The document, for people to read and `load` to take back."""
    return checked_document.dump(wanted.models, FORMAT, _KEY)


def load(document: bytes) -> Wanted:
    """What `dump` was given.

    Raises:
        DocumentInvalid: with the reason, as half a sentence.
    """
    content = checked_document.load(document, FORMAT, _KEY)
    try:
        models = msgspec.convert(content, dict[str, WantedModel], strict=True)
        for name, model in models.items():
            _check(name, model)
    except (msgspec.ValidationError, InvalidInput) as error:
        raise DocumentInvalid(f"it does not fit: {error}") from error
    return Wanted(models)


def _check(name: str, model: WantedModel) -> None:
    for version in model.versions:
        checked_ref(name, version)
    if model.default not in model.versions:
        raise InvalidInput(f"the default version {model.default} of {name} is not among them")
