"""What TorchServe's `model_snapshot` says: which versions a server had, and how. Pure.

TorchServe writes it into the files of `logs/config/`, and KServe passes it in its configuration.
`registry/torchserve_snapshot.py` writes the same form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marserve.config_values import LARGEST_INT, Notes, ValueType
from marserve.errors import InvalidInput
from marserve.json_values import fields_of, read_object, typed, whole_number_in
from marserve.refs import checked_ref

SNAPSHOT_KEY = "model_snapshot"
HEAD = "#Saving snapshot"
"""The first line of every snapshot file."""
MARSERVE_MARK = "#Written by MarServe"
"""A line that only our own snapshots have."""
_FILE_NAME = re.compile(r"([0-9]{17})-(?:startup|snapshot|shutdown)\.cfg")


@dataclass(frozen=True, slots=True)
class SnapshotVersion:
    """One version of a snapshot: everything that TorchServe knew of it."""

    name: str
    version: str
    mar_name: str
    """A name in the model store."""
    is_default: bool = False
    min_workers: int = 1
    max_workers: int = 1
    batch_size: int = 1
    max_batch_delay_ms: int = 100
    response_timeout_s: int = 120
    startup_timeout_s: int = 120
    runtime: str = "python"
    parallel_level: int = 0


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """The versions in the order of the document, in which they are registered."""

    versions: tuple[SnapshotVersion, ...]
    name: str = ""
    """How the snapshot calls itself."""


def snapshot_time(file_name: str) -> str:
    """The moment in the name of a snapshot file, yyyyMMddHHmmssSSS; "" for other files."""
    match = _FILE_NAME.fullmatch(file_name)
    return match[1] if match else ""


def is_by_marserve(text: str) -> bool:
    """Our own server wrote this snapshot."""
    return MARSERVE_MARK in text.splitlines()[:3]


_COUNTS: dict[str, tuple[str, int]] = {
    "minWorkers": ("min_workers", 0),
    "maxWorkers": ("max_workers", 0),
    "batchSize": ("batch_size", 1),
    "maxBatchDelay": ("max_batch_delay_ms", 0),
    "responseTimeout": ("response_timeout_s", 1),
    "startupTimeout": ("startup_timeout_s", 1),
    "parallelLevel": ("parallel_level", 0),
}
"""JSON name → field and the least that makes sense."""


def _read_snapshot(text: str, notes: Notes) -> ModelSnapshot | None:
    if not text:
        return None
    snapshot = read_object(text)
    models = fields_of(snapshot.get("models", {}), "an object of models")
    versions = tuple(
        _version(name, version, fields, notes)
        for name, by_version in models.items()
        for version, fields in fields_of(by_version, f"an object of versions for {name}").items()
    )
    return _counted(snapshot, ModelSnapshot(versions, str(snapshot.get("name", ""))), notes)


def _counted(document: Mapping[str, Any], snapshot: ModelSnapshot, notes: Notes) -> ModelSnapshot:
    """TorchServe starts without models when the count is not positive, whatever follows it."""
    count = document.get("modelCount", len(snapshot.versions))
    whole_number_in("modelCount", count)
    if count <= 0 or not snapshot.versions:
        notes.append("it names no models, so the server starts without any")
        return ModelSnapshot((), snapshot.name)
    return snapshot


def _version(name: str, version: str, value: Any, notes: Notes) -> SnapshotVersion:
    try:
        where = str(checked_ref(name, version))
    except InvalidInput as error:
        raise ValueError(error.message) from error
    fields = fields_of(value, f"an object of settings for {where}")
    taken: dict[str, Any] = {}
    for field, given in fields.items():
        if field in _COUNTS:
            key, least = _COUNTS[field]
            count = whole_number_in(f"{field} of {where}", given)
            if not least <= count <= LARGEST_INT:
                notes.append(f"{field} of {where} is {count} and is left to the default")
                continue
            taken[key] = count
        elif field == "marName":
            taken["mar_name"] = typed(f"marName of {where}", given, str, "text")
        elif field == "runtimeType":
            taken["runtime"] = typed(f"runtimeType of {where}", given, str, "text")
        elif field == "defaultVersion":
            taken["is_default"] = typed(f"{field} of {where}", given, bool, "true or false")
        else:
            notes.append(f"{field} of {where} is not known here and has no effect")
    if not taken.get("mar_name"):
        raise ValueError(f"expected marName, the archive in the model store, for {where}")
    taken["max_workers"] = max(taken.get("max_workers", 1), taken.get("min_workers", 1))
    return SnapshotVersion(name, version, **taken)


MODEL_SNAPSHOT = ValueType("one JSON object", _read_snapshot)
