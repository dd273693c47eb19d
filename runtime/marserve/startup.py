"""Which archives the configuration wants opened at a start, and with which settings. Pure.

A snapshot of TorchServe's (`model_snapshot`) is followed instead of `load_models`, as there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from marserve.config import Config
from marserve.config_snapshot import SnapshotVersion
from marserve.model_version import Settings


@dataclass(frozen=True, slots=True)
class Entry:
    """One archive to open."""

    url: str
    name: str | None = None
    stored: SnapshotVersion | None = None
    """What a snapshot says of it: exactly these settings hold."""
    sha256: str | None = None
    """The digest that the archive must have."""

    def settled(self, settings: Settings) -> Settings:
        """`settings`, as far as no snapshot knows better."""
        stored = self.stored
        if stored is None:
            return settings
        return replace(
            settings,
            min_workers=stored.min_workers,
            max_workers=max(stored.min_workers, stored.max_workers),
            batch_size=stored.batch_size,
            max_batch_delay_ms=stored.max_batch_delay_ms,
            response_timeout_s=stored.response_timeout_s,
            startup_timeout_s=stored.startup_timeout_s,
            runtime=stored.runtime,
        )


def entries(config: Config, all_archives: Iterable[str]) -> tuple[Entry, ...]:
    """What is opened, in this order; `all_archives` are the names in the model store."""
    if config.model_snapshot is not None:
        return tuple(Entry(one.mar_name, one.name, one) for one in config.model_snapshot.versions)
    if config.load_models.all:
        return tuple(Entry(url) for url in all_archives)
    return tuple(Entry(one.url, one.name, sha256=one.sha256) for one in config.load_models.entries)
