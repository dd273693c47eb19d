"""How many cores this server may use: not how many the machine has.

The cores that it is allowed to run on, and no more than what its container may use of them. Cores
are counted, not the two threads that many of them have: numeric code gains nothing from the second.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Collection
from pathlib import Path

_ROOT = Path("/")
_CGROUP = "sys/fs/cgroup"


def available_cores() -> int:
    """At least 1."""
    return cores_of(os.sched_getaffinity(0))


def cores_of(processors: Collection[int], root: Path = _ROOT) -> int:
    """As `available_cores`, for a process that may run on these processors.

    Args:
        processors: their numbers.
        root: of the file system where the kernel describes them.
    """
    return _allowed(len({_siblings(root, processor) for processor in processors}), root)


def available_processors(root: Path = _ROOT) -> int:
    """At least 1. As `available_cores`, but both threads of a core count, as TorchServe counts."""
    return _allowed(len(os.sched_getaffinity(0)), root)


def _allowed(count: int, root: Path) -> int:
    quota = _quota(root)
    return max(1, count if quota is None else min(count, math.ceil(quota)))


def _siblings(root: Path, processor: int) -> str:
    """What all processors of one core have in common."""
    path = root / f"sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list"
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return str(processor)


def _quota(root: Path) -> float | None:
    """How many processors the control group may keep busy; None: any number.

    A group is bound by those it is in as well, so the least counts.
    """
    limits = []
    for folder in _folders(root):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            limits.append(int(quota) / int(period))  # "max" is no number: no limit
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        first = root / _CGROUP / "cpu"
        quota_us = int((first / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period_us = int((first / "cpu.cfs_period_us").read_text(encoding="ascii"))
        if quota_us > 0:
            limits.append(quota_us / period_us)
    return min((limit for limit in limits if limit > 0), default=None)


def _folders(root: Path) -> list[Path]:
    """The folder of this process's group, and of every group that it is in."""
    top = root / _CGROUP
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return [top]
    paths = [line.split(":", 2)[2].strip("/") for line in lines if line.startswith("0::")]
    folders = [top]
    for path in paths:
        parts = [part for part in path.split("/") if part]
        if ".." not in parts:
            folders += [top.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
    return folders
