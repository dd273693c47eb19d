"""What names a model version, and which names are legal. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from marserve.errors import InvalidInput
from marserve_archiver.manifest import MODEL_NAME, VERSION

__all__ = ["MODEL_NAME", "VERSION", "ModelRef", "checked_ref", "name_from_file"]


@dataclass(frozen=True, slots=True, order=True)
class ModelRef:
    """One version of one model. Printed as `name:version`."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


def checked_ref(name: str, version: str) -> ModelRef:
    """A ref whose two halves are legal.

    Raises:
        InvalidInput: a half is empty, too long or holds a forbidden character.
    """
    if not MODEL_NAME.fullmatch(name):
        raise InvalidInput(
            f"Model name {name!r} is not valid: it must match {MODEL_NAME.pattern} completely."
        )
    if not VERSION.fullmatch(version):
        raise InvalidInput(
            f"Model version {version!r} is not valid: it must match {VERSION.pattern} completely."
        )
    return ModelRef(name, version)


def name_from_file(stem: str) -> str:
    """The model name that a file called `stem` gets when its manifest names none."""
    return re.sub(r"\W", "_", stem, flags=re.ASCII).lstrip("_")
