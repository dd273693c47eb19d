"""How much memory is there, and how much of it could still be taken: of the machine or the cgroup.

Whichever allows less counts. Reading takes tens of microseconds, so nobody does it per request.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

_CGROUPS = Path("/sys/fs/cgroup")


class _Files(NamedTuple):
    """Where a version of cgroups keeps its figures, below the root."""

    limit: str
    used: str
    stat: str
    reclaimable: str
    """The line of `stat` that counts pages which the kernel gives back when asked."""


_VERSIONS = (
    _Files("memory.max", "memory.current", "memory.stat", "inactive_file"),
    _Files(
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def total_bytes(cgroups: Path = _CGROUPS) -> int:
    """All memory that this process could ever use."""
    total: int = psutil.virtual_memory().total
    return min([total, *(limit for limit, _ in _cgroup(cgroups))])


def available_bytes(cgroups: Path = _CGROUPS) -> int:
    """What could be taken now without swapping, or being killed for it."""
    free: int = psutil.virtual_memory().available
    return max(0, min([free, *(limit - used for limit, used in _cgroup(cgroups))]))


def _cgroup(root: Path) -> list[tuple[int, int]]:
    """Limit and use in bytes, where there is a limit."""
    for files in _VERSIONS:
        with suppress(OSError, ValueError):
            limit = int((root / files.limit).read_text())  # "max" is no number: no limit
            used = int((root / files.used).read_text())
            return [(limit, used - _reclaimable(root / files.stat, files.reclaimable))]
    return []


def _reclaimable(stat: Path, name: str) -> int:
    for line in stat.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
