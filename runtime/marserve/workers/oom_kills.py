"""How often has the kernel killed a process for want of memory? Read when a worker was killed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


def oom_kills(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """The kills in our own control group, or on the whole machine; None: nobody says."""
    for path in (*_own_groups(proc, cgroups), proc / "vmstat"):
        found = _count(path)
        if found is not None:
            return found
    return None


def _own_groups(proc: Path, cgroups: Path) -> Iterator[Path]:
    """Where a control group of either version counts its kills."""
    with contextlib.suppress(OSError, ValueError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            hierarchy, controllers, path = line.split(":", 2)
            inside = path.lstrip("/")
            if hierarchy == "0":
                yield cgroups / inside / "memory.events"
            elif "memory" in controllers.split(","):
                yield cgroups / "memory" / inside / "memory.oom_control"


def _count(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return None
