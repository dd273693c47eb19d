"""The wanted state in the form of TorchServe's snapshot files. Pure.

`wanted.json` (`registry.py`) is the truth for the next start of this server: it is written before
a change takes effect and holds every setting. A snapshot is written after it, for what reads
TorchServe's: scripts, people, a way back to TorchServe, and `--start` without a configuration
file. At a start they go together like this:

- the newest snapshot is ours: wanted.json is at least as new and decides about models; the
  snapshot only gives the configuration (under TorchServe's command names);
- the newest snapshot is TorchServe's: TorchServe was the last to run here, so its models replace
  those of wanted.json (`Config.snapshot_is_last_run`);
- `model_snapshot` in a file that somebody named: its models are added where they are missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from marserve.config_snapshot import HEAD, MARSERVE_MARK, SNAPSHOT_KEY, SnapshotVersion
from marserve.foreign_settings import TORCHSERVE_VERSION
from marserve.properties import dump
from marserve.refs import ModelRef
from marserve.registry.wanted import Wanted

_OWN_KEYS: Final = {SNAPSHOT_KEY, "version", "python", "tsConfigFile"}


def versions_of(wanted: Wanted) -> tuple[SnapshotVersion, ...]:
    """Every wanted version, as a snapshot has it."""
    return tuple(_version(ref, wanted) for ref in wanted.refs())


def document(
    name: str,
    created_ms: int,
    date: str,
    properties: Mapping[str, str],
    versions: Iterable[SnapshotVersion],
) -> str:
    """The text of one snapshot file.

    Args:
        name: of the file.
        created_ms: milliseconds since the epoch.
        date: the same moment for people, on one line.
        properties: the configuration, by key, as it stands in a file.
        versions: the models.
    """
    content = _content(name, created_ms, list(versions))
    entries = {key: text for key, text in properties.items() if key not in _OWN_KEYS}
    entries |= {"version": TORCHSERVE_VERSION, SNAPSHOT_KEY: json.dumps(content, indent=2)}
    return f"{HEAD}\n#{date}\n{MARSERVE_MARK}\n{dump(entries.items())}"


def _content(name: str, created_ms: int, versions: list[SnapshotVersion]) -> dict[str, Any]:
    models: dict[str, dict[str, Any]] = {}
    for version in versions:
        models.setdefault(version.name, {})[version.version] = _entry(version)
    return {"name": name, "modelCount": len(versions), "created": created_ms, "models": models}


def _entry(version: SnapshotVersion) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "defaultVersion": version.is_default,
        "marName": version.mar_name,
        "minWorkers": version.min_workers,
        "maxWorkers": version.max_workers,
        "batchSize": version.batch_size,
        "maxBatchDelay": version.max_batch_delay_ms,
        "responseTimeout": version.response_timeout_s,
        "startupTimeout": version.startup_timeout_s,
        "runtimeType": version.runtime,
    }
    return entry | ({"parallelLevel": version.parallel_level} if version.parallel_level else {})


def _version(ref: ModelRef, wanted: Wanted) -> SnapshotVersion:
    version = wanted[ref]
    settings = version.settings
    return SnapshotVersion(
        name=ref.name,
        version=ref.version,
        mar_name=_in_store(version.url),
        is_default=wanted.model(ref.name).default == ref.version,
        min_workers=settings.min_workers,
        max_workers=settings.max_workers,
        batch_size=settings.batch_size,
        max_batch_delay_ms=settings.max_batch_delay_ms,
        response_timeout_s=settings.response_timeout_s,
        startup_timeout_s=settings.startup_timeout_s,
        runtime=settings.runtime,
        parallel_level=settings.parallel_level,
    )


def _in_store(url: str) -> str:
    """The name under which an archive lies in the model store, wherever it came from."""
    path = urlsplit(url).path if "://" in url else url
    return path.rstrip("/").rpartition("/")[2]
