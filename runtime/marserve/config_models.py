"""What a configuration says of models: which are loaded, and what holds for single versions. Pure.

Reads the texts of `load_models` and `models`; whether the archives exist is for the model store.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from marserve.config_values import LARGEST_INT, Notes, ValueType
from marserve.errors import InvalidInput
from marserve.json_values import fields_of, read_object, typed, whole_number_in
from marserve.refs import MODEL_NAME, checked_ref

_PIN = "#sha256="
_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")


class ModelToLoad(NamedTuple):
    """One entry of load_models; without a name, the archive's manifest gives it."""

    name: str | None
    url: str
    sha256: str | None = None
    """The digest that the archive must have, in lower-case hex."""


@dataclass(frozen=True, slots=True)
class LoadModels:
    """Which models are loaded at start-up: the entries, or everything in the model store."""

    entries: tuple[ModelToLoad, ...] = ()
    all: bool = False


@dataclass(frozen=True, slots=True)
class ModelOverrides:
    """What `models` says of one version; None leaves a value to the archive and the defaults."""

    default_version: bool = False
    mar_name: str | None = None
    min_workers: int | None = None
    max_workers: int | None = None
    batch_size: int | None = None
    max_batch_delay_ms: int | None = None
    response_timeout_s: int | None = None
    startup_timeout_s: int | None = None
    runtime: str | None = None
    parallel_level: int | None = None


def _read_load_models(text: str, _notes: Notes) -> LoadModels:
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if any(entry.lower() == "all" for entry in entries):
        if len(entries) > 1:
            raise ValueError('expected either "all" alone or a list of archives')
        return LoadModels(all=True)
    return LoadModels(tuple(_model_to_load(entry) for entry in entries))


def _model_to_load(entry: str) -> ModelToLoad:
    named, mark, digest = entry.partition(_PIN)
    if mark and not _DIGEST.fullmatch(digest):
        raise ValueError(f'expected 64 hexadecimal digits after {_PIN} in "{entry}"')
    sha256 = digest.lower() if mark else None
    name, equals, url = named.partition("=")
    name, url = name.strip(), url.strip()
    if not equals or "/" in name:  # an = inside a path or URL separates nothing
        return ModelToLoad(None, named, sha256)
    if not MODEL_NAME.fullmatch(name) or not url:
        raise ValueError(f'expected ARCHIVE or NAME=ARCHIVE in place of "{entry}"')
    return ModelToLoad(name, url, sha256)


_COUNTS = {
    "minWorkers": "min_workers",
    "maxWorkers": "max_workers",
    "batchSize": "batch_size",
    "maxBatchDelay": "max_batch_delay_ms",
    "responseTimeout": "response_timeout_s",
    "startupTimeout": "startup_timeout_s",
    "parallelLevel": "parallel_level",
}
_TEXTS = {"marName": "mar_name", "runtimeType": "runtime"}
_MODEL_FIELDS = ("defaultVersion", *_TEXTS, *_COUNTS)


def _read_models(text: str, notes: Notes) -> Mapping[str, Mapping[str, ModelOverrides]]:
    document = read_object(text) if text else {}
    return {
        name: {
            version: _overrides(name, version, fields, notes)
            for version, fields in fields_of(versions, f"an object of versions for {name}").items()
        }
        for name, versions in document.items()
    }


def _overrides(name: str, version: str, value: Any, notes: Notes) -> ModelOverrides:
    try:
        where = str(checked_ref(name, version))
    except InvalidInput as error:
        raise ValueError(error.message) from error
    taken: dict[str, Any] = {}
    for field, given in fields_of(value, f"an object of settings for {where}").items():
        if field in _COUNTS:
            taken[_COUNTS[field]] = _count(f"{field} of {where}", given, notes)
        elif field in _TEXTS:
            taken[_TEXTS[field]] = typed(f"{field} of {where}", given, str, "text")
        elif field == "defaultVersion":
            taken["default_version"] = typed(f"{field} of {where}", given, bool, "true or false")
        else:
            _note_stranger(field, where, notes)
    return _consistent(where, ModelOverrides(**taken))


def _note_stranger(field: str, where: str, notes: Notes) -> None:
    """A slip is a mistake; TorchServe took no notice of what it did not know."""
    near = difflib.get_close_matches(field, _MODEL_FIELDS, n=1, cutoff=0.8)
    if near:
        raise ValueError(f"{field} of {where} is not known: did you mean {near[0]}")
    notes.append(f"{field} of {where} is not known here and has no effect")


def _count(what: str, value: Any, notes: Notes) -> int | None:
    count = whole_number_in(what, value)
    if count > LARGEST_INT:
        raise ValueError(f"{what} is {count}: expected at most {LARGEST_INT}")
    if count <= 0:
        notes.append(f"{what} is {count} and is left to the default")
        return None
    return count


def _consistent(where: str, overrides: ModelOverrides) -> ModelOverrides:
    least, most = overrides.min_workers, overrides.max_workers
    if least is not None and most is not None and most < least:
        raise ValueError(f"maxWorkers of {where} is {most}, less than its minWorkers {least}")
    return overrides


LOAD_MODELS = ValueType("all, or a list of ARCHIVE or NAME=ARCHIVE", _read_load_models)
MODELS = ValueType("one JSON object", _read_models)
