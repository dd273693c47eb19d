"""What the handlers ran, read from the journal that they append to. Pure, but for `read`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """One batch in one handler."""

    began_s: float
    pid: int
    ids: tuple[int, ...]
    ended_s: float | None
    """None: the worker did not come to its end."""


def read(path: Path) -> list[Run]:
    """Every run so far, in the order they began."""
    return parse(path.read_bytes()) if path.exists() else []


def parse(data: bytes) -> list[Run]:
    """Every run of a journal. A last line without its end, of a writer that was killed, is none."""
    runs: list[Run] = []
    running: dict[int, int] = {}
    for line in data.split(b"\n")[:-1]:
        mark, nanoseconds, pid_text, ids_text = line.split(b" ")
        at_s, pid = int(nanoseconds) / 1e9, int(pid_text)
        if mark == b"b":
            running[pid] = len(runs)
            runs.append(Run(at_s, pid, tuple(map(int, ids_text.split(b","))), None))
        elif pid in running:
            index = running.pop(pid)
            begun = runs[index]
            runs[index] = Run(begun.began_s, pid, begun.ids, at_s)
    return runs


def executions(runs: list[Run]) -> Counter[int]:
    """How often each request was run."""
    counts: Counter[int] = Counter()
    for run in runs:
        counts.update(run.ids)
    return counts


def resumed_after(runs: list[Run], kills: list[tuple[float, int]]) -> list[float]:
    """For each kill of a worker at work: seconds until its requests ran again somewhere.

    Args:
        kills: moment (monotonic) and pid of each.
    """
    begun: dict[int, list[float]] = {}
    by_pid: dict[int, list[Run]] = {}
    for run in runs:
        by_pid.setdefault(run.pid, []).append(run)
        for id_ in run.ids:
            begun.setdefault(id_, []).append(run.began_s)
    waits = []
    for killed_s, pid in kills:
        cut = [run for run in by_pid.get(pid, ()) if run.ended_s is None and run.began_s < killed_s]
        again = [s for run in cut for id_ in run.ids for s in begun[id_] if s > killed_s]
        if again:
            waits.append(min(again) - killed_s)
    return waits
