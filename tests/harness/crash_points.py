"""CRASHFS: every call of every change meets every fault, and every power cut that could follow.

Shared by a test, which samples, and by `benchmarks/reliability/crash_points.py`, which does not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fake_disk import FAULTS, FakeDisk, FaultyDisk, SuddenEnd

from marserve.errors import StateNotSaved
from marserve.model_version import Settings
from marserve.pipelines import wanted_workflows
from marserve.protocols.workflows import WorkflowRegistration
from marserve.refs import ModelRef
from marserve.registry.durable_file import DurableFile
from marserve.registry.registry import Registry
from marserve.registry.wanted import Wanted, WantedVersion
from marserve_archiver.disk import Disk

STATE = Path("/srv/logs/state")

Commit = Callable[[Any], None]


@dataclass(frozen=True)
class Kept:
    """One file of the state: how it is opened, and the states that it goes through."""

    name: str
    open: Callable[[Disk], tuple[Commit, Callable[[], Any]]]
    """What makes a state durable, raising StateNotSaved, and what finds it again."""
    states: tuple[Any, ...]


def _registry(disk: Disk) -> tuple[Commit, Callable[[], Any]]:
    registry = Registry(STATE, disk=disk)

    def commit(state: Wanted) -> None:
        before = registry.wanted
        try:
            registry.commit(state)
        except StateNotSaved:
            assert registry.wanted == before, "a refused change is not applied"
            raise

    return commit, registry.restore


def _workflows(disk: Disk) -> tuple[Commit, Callable[[], Any]]:
    file = DurableFile(STATE, wanted_workflows.FILE_NAME, disk)

    def commit(state: Any) -> None:
        try:
            file.write(wanted_workflows.dump(state))
        except OSError as error:
            raise StateNotSaved(str(error)) from error

    return commit, lambda: file.read(wanted_workflows.load) or {}


def _wanted(count: int) -> Wanted:
    wanted = Wanted()
    for number in range(count):
        version = WantedVersion(f"m{number}.mar", Settings(1, 1), sha256="0" * 64)
        wanted = wanted.add(ModelRef(f"m{number}", "1.0"), version)
    return wanted


KEPT = (
    Kept("models", _registry, tuple(map(_wanted, (0, 1, 2, 1, 3)))),
    Kept(
        "workflows",
        _workflows,
        tuple(
            {f"w{number}": WorkflowRegistration(f"w{number}.war") for number in range(count)}
            for count in (0, 1, 2, 1, 3)
        ),
    ),
)


def calls(kept: Kept) -> int:
    """How many calls its changes make when nothing fails."""
    disk = FaultyDisk(FakeDisk())
    commit, _ = kept.open(disk)
    for state in kept.states[1:]:
        commit(state)
    return len(disk.log)


def points(kept: Kept) -> Iterator[tuple[int, str]]:
    """Every call with every fault."""
    for at in range(calls(kept)):
        for fault in FAULTS:
            yield at, fault


def tried(kept: Kept, at: int, fault: str, roll: random.Random, each: int = 1) -> tuple[int, int]:
    """Makes all changes with one fault, cutting the power wherever that may tell something.

    A change that was acknowledged must be found after any cut, one that was refused never; of the
    one that the process died in, both are right. Every `each`-th of the possible cuts is looked at.

    Returns how many cuts were looked at and how many changes were refused.
    """
    below = FakeDisk()
    disk = FaultyDisk(below, at, fault)
    commit, _ = kept.open(disk)
    acknowledged, looked, refused = kept.states[0], 0, 0
    for state in kept.states[1:]:
        try:
            commit(state)
        except StateNotSaved:
            refused += 1
            looked += _look(kept, below, [acknowledged], roll, each)
        except SuddenEnd:
            return looked + _look(kept, below, [acknowledged, state], roll, each), refused
        else:
            acknowledged = state
            looked += _look(kept, below, [state], roll, each)
    assert below.listing(STATE) != [], "something was kept"
    assert not any("partial" in name for name in below.listing(STATE)), "nothing is left"
    return looked, refused


def _look(kept: Kept, disk: FakeDisk, allowed: list[Any], roll: random.Random, each: int) -> int:
    looked = 0
    for number, cut in enumerate(disk.cuts(roll)):
        if number % each:
            continue
        looked += 1
        commit, restore = kept.open(cut)
        found = restore()
        assert found in allowed, (found, allowed)
        if number % (each * 16) == 0:  # and life goes on
            commit(kept.states[-1])
            assert kept.open(cut)[1]() == kept.states[-1]
    return looked


def damaged(kept: Kept, places: Iterable[int]) -> int:
    """Cuts the newest file off at each of these bytes, and flips bits of each.

    The newest state that is whole is found; the damaged file is kept. Returns how many were tried.
    """
    tries = 0
    whole = _disk_with(kept, None).read(_newest(kept))
    for at in places:
        if at >= len(whole):
            break
        flipped = whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :]
        for content in (whole[:at], flipped):
            tries += 1
            disk = _disk_with(kept, content)
            found = kept.open(disk)[1]()
            aside = [name for name in disk.listing(STATE) if name.endswith(".damaged")]
            if found == kept.states[1]:
                assert [disk.read(STATE / name) for name in aside] == [content], at
            else:
                # what was damaged is a space, or a letter whose case does not count
                assert (found, aside) == (kept.states[2], []), at
    return tries


def _newest(kept: Kept) -> Path:
    disk = _disk_with(kept, None)
    [name] = [one for one in disk.listing(STATE) if "previous" not in one]
    return STATE / name


def _disk_with(kept: Kept, newest: bytes | None) -> FakeDisk:
    """Both files of the state; the newest with this content, if any."""
    disk = FakeDisk()
    commit, _ = kept.open(disk)
    for state in kept.states[1:3]:
        commit(state)
    if newest is not None:
        disk.put(_newest(kept), newest)
    return disk
