"""The manifest: what an archive says about itself, in `MAR-INF/MANIFEST.json`.

Pure: bytes in, frozen value out, and back. The keys are TorchServe's, so that archives go both
ways; a key this package does not know is kept and written again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from marserve_archiver.errors import ArchiveError, ManifestInvalid
from marserve_archiver.members import DEFAULT_LIMITS, Limits, name_problem

MANIFEST_NAME: Final = "MAR-INF/MANIFEST.json"
RUNTIMES: Final = ("python", "python3", "LSP")
MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
DEFAULT_VERSION: Final = "1.0"
NO_DATE: Final = "01/01/1980 00:00:00"
"""The date of archives that record none: the first that a zip file can hold."""

# JSON key → field, in the order in which they are written
_TOP_KEYS: Final = {
    "createdOn": "created_on",
    "runtime": "runtime",
    "archiverVersion": "archiver_version",
}
_MODEL_KEYS: Final = {
    "modelName": "model_name",
    "serializedFile": "serialized_file",
    "handler": "handler",
    "modelFile": "model_file",
    "modelVersion": "model_version",
    "requirementsFile": "requirements_file",
    "configFile": "config_file",
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive says about itself. Without arguments: what a missing manifest means."""

    model_name: str | None = None
    model_version: str = DEFAULT_VERSION
    handler: str | None = None
    """`file.py`, `file.py:function`, or the name of a handler that is installed."""
    model_file: str | None = None
    serialized_file: str | None = None
    requirements_file: str | None = None
    config_file: str | None = None
    runtime: str = "python"
    created_on: str | None = None
    """`dd/mm/YYYY HH:MM:SS`, as text: nothing depends on it."""
    archiver_version: str | None = None
    other: Mapping[str, object] = field(default_factory=dict, hash=False)
    """Keys beside `model` that this package does not know."""
    model_other: Mapping[str, object] = field(default_factory=dict, hash=False)
    """Keys inside `model` that this package does not know."""

    def files(self) -> tuple[tuple[str, str], ...]:
        """Each file the manifest names, as (JSON key, member name)."""
        named = {
            "serializedFile": self.serialized_file,
            "modelFile": self.model_file,
            "handler": self.handler_file(),
            "requirementsFile": self.requirements_file,
            "configFile": self.config_file,
        }
        return tuple((key, name) for key, name in named.items() if name is not None)

    def handler_file(self) -> str | None:
        """The Python file of the handler, or None when the handler is found by name."""
        path = (self.handler or "").split(":", 1)[0]
        return path if path.endswith(".py") else None


def parse(content: bytes, limits: Limits = DEFAULT_LIMITS) -> Manifest:
    """Reads a manifest.

    Raises:
        ManifestInvalid: no JSON object, a value of the wrong type, an unknown runtime, too large.
    """
    check_size(len(content), limits)
    document = json_object(content)
    model = sub_object(document, "model")
    known = {name: text_of(document, key) for key, name in _TOP_KEYS.items()}
    known |= {name: text_of(model, key) for key, name in _MODEL_KEYS.items()}
    runtime = known.pop("runtime") or "python"
    if runtime not in RUNTIMES:
        raise ManifestInvalid(
            "bad-runtime", f"The manifest's runtime is {runtime!r}; it must be one of {RUNTIMES}."
        )
    return Manifest(
        runtime=runtime,
        model_version=known.pop("model_version") or DEFAULT_VERSION,
        other={k: v for k, v in document.items() if k != "model" and k not in _TOP_KEYS},
        model_other={k: v for k, v in model.items() if k not in _MODEL_KEYS},
        **known,
    )


def check_size(size_bytes: int, limits: Limits) -> None:
    """Refuses a manifest by its size, before it is read.

    Raises:
        ManifestInvalid: it is larger than any manifest has to be.
    """
    if size_bytes > limits.max_manifest_bytes:
        raise ManifestInvalid(
            "manifest-too-large", f"The manifest is larger than {limits.max_manifest_bytes} bytes."
        )


def dump(manifest: Manifest) -> bytes:
    """The bytes of `MAR-INF/MANIFEST.json`: indented by two, unknown keys after the known ones."""

    def known(keys: Mapping[str, str]) -> dict[str, object]:
        values = {key: getattr(manifest, name) for key, name in keys.items()}
        return {key: value for key, value in values.items() if value is not None}

    document = known(_TOP_KEYS)
    document["model"] = known(_MODEL_KEYS) | dict(manifest.model_other)
    document |= manifest.other
    return (json.dumps(document, indent=2) + "\n").encode()


def file_problems(manifest: Manifest, present: Collection[str]) -> Iterator[ArchiveError]:
    """Files that the manifest names but that are not among the names `present`."""
    for key, name in manifest.files():
        problem = name_problem(name)
        if problem is not None:
            yield ManifestInvalid("bad-manifest", f"The manifest's {key} is refused: {problem}")
        elif name not in present:
            yield ManifestInvalid(
                "missing-file", f"The manifest names {key} {name!r}, which is not in the archive."
            )


def json_object(content: bytes) -> dict[str, object]:
    """The JSON object in the bytes of a manifest.

    Raises:
        ManifestInvalid: it is none.
    """
    return _object(_decoded(content), "The manifest")


def sub_object(values: Mapping[str, object], key: str) -> dict[str, object]:
    """The object under a key of the manifest; empty when there is none.

    Raises:
        ManifestInvalid: something else is there.
    """
    return _object(values.get(key, {}), f'The manifest\'s "{key}"')


def text_of(values: Mapping[str, object], key: str) -> str | None:
    """The text under a key; None when there is none, or an empty one.

    Raises:
        ManifestInvalid: something else is there.
    """
    value = values.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)  # "modelVersion": 1.0 without quotes is common in hand-written files
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ManifestInvalid("bad-manifest", f"The manifest's {key} must be a string.")
    return value


def _decoded(content: bytes) -> object:
    try:
        document: object = json.loads(
            content.decode("utf-8-sig"), object_pairs_hook=_without_duplicates
        )
    # RecursionError: brackets nested deeper than any manifest; ValueError: JSON or UTF-8 is broken
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(
            "bad-manifest", f"The manifest is not valid JSON ({_first_line(error)})."
        ) from error
    return document


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Readers disagree about which of two equal keys counts, so there must not be two."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object has the same key twice")
    return result


def _object(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ManifestInvalid("bad-manifest", f"{what} must be a JSON object.")
    return value


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0] or type(error).__name__
