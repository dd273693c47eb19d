"""What a server holds at one moment: descriptors, threads, processes, files, memory."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

_SLACK = {"threads": 4}
"""Pools of threads that are bounded fill up as they are used."""
_NUMBER = re.compile(r"(?<![0-9a-zA-Z])[0-9]{2,7}(?![0-9a-zA-Z])")


@dataclass(frozen=True, slots=True)
class Holdings:
    """Of a server process and its descendants."""

    descriptors: Counter[str]
    """Of the server process itself, by kind ("socket", "pipe", a path)."""
    threads: int
    processes: int
    """Descendants."""
    zombies: int
    shared_memory: frozenset[str]
    """What is in /dev/shm, which all processes share: without what others surely made."""
    temporary: int
    """Files below the folder it was given for temporary files and its cache."""
    rss_bytes: int
    """Of the server process."""
    workers_rss_bytes: int

    def more_than(self, before: Holdings) -> dict[str, str]:
        """What it holds now and did not hold then; memory apart."""
        found = {}
        extra = self.descriptors - before.descriptors
        if sum(self.descriptors.values()) > sum(before.descriptors.values()):
            found["descriptors"] = ", ".join(f"{n} more {kind}" for kind, n in extra.items())
        for name in ("threads", "processes", "zombies", "temporary"):
            was, is_ = getattr(before, name), getattr(self, name)
            if is_ > was + _SLACK.get(name, 0):
                found[name] = f"{is_} instead of {was}"
        new = self.shared_memory - before.shared_memory
        if new:
            found["shared memory"] = ", ".join(sorted(new))
        return found


def holdings(pid: int, folder: Path) -> Holdings:
    """What the server `pid` holds; `folder` is where its temporary files are."""
    server = psutil.Process(pid)
    children = server.children(recursive=True)
    memory, zombies = 0, 0
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            zombies += child.status() == psutil.STATUS_ZOMBIE
            memory += child.memory_info().rss
    return Holdings(
        descriptors=_descriptors(pid),
        threads=server.num_threads(),
        processes=len(children),
        zombies=zombies,
        shared_memory=_shared_memory({pid, *(child.pid for child in children)}),
        temporary=sum(len(files) for _, _, files in os.walk(folder)),
        rss_bytes=server.memory_info().rss,
        workers_rss_bytes=memory,
    )


def _shared_memory(ours: set[int]) -> frozenset[str]:
    """Libraries put their process into a name: whose process lives and is not ours is not ours."""
    return frozenset(
        name
        for name in os.listdir("/dev/shm")  # noqa: PTH208  names are all it takes
        if not any(
            int(number) not in ours and psutil.pid_exists(int(number))
            for number in _NUMBER.findall(name)
        )
    )


def _descriptors(pid: int) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            kinds[link.readlink().as_posix().split(":", 1)[0]] += 1
    return kinds
