"""F15: archives are registered while the disk of the cache is filled to a random degree.

Each is served, or refused with 507 and the bytes that are needed; nothing is left of a refused one,
and the model that was there before answers. The disk is a small tmpfs; where none may be mounted,
the trials are not made and the outcome says so.
"""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "harness"))

from budget import Budget
from outcome import Outcome
from running_server import Server, end
from standalone import standalone

MIB = 1 << 20
DISK_MIB = 24
SIZES_MIB = (1, 3, 6, 11, 17)
EACH_S = 0.15


def run(budget: Budget) -> Outcome:
    """At most 200 registrations, as many as the budget allows."""
    with tempfile.TemporaryDirectory(prefix="marserve-full-") as name, _disk(Path(name)) as disk:
        if disk is None:
            return _outcome(0, 0, 0, "; no tmpfs may be mounted here")
        server = Server(Path(name) / "server")
        try:
            return _trials(server, disk, budget)
        finally:
            end(server)


def _trials(server: Server, disk: Path, budget: Budget) -> Outcome:
    roll = random.Random(budget.seed)
    weights = server.root / "w.bin"
    for size_mib in SIZES_MIB:
        weights.write_bytes(roll.randbytes(size_mib * MIB))
        server.pack(f"m{size_mib}", "version.py", extra_files=str(weights))
    server.pack("kept", "version.py")
    server.start(load_models="kept.mar", cache_dir=disk / "cache")
    kept = _used_bytes(disk)
    refused = tried = 0
    problems: list[str] = []
    for _ in range(budget.trials(200, EACH_S)):
        filler = disk / "filler"
        filler.write_bytes(bytes(roll.randrange(DISK_MIB * MIB - kept - MIB)))
        size_mib = roll.choice(SIZES_MIB)
        before = _listing(disk)
        reply = server.manage("POST", f"/models?url=m{size_mib}.mar")
        tried += 1
        if reply.status == 507:
            refused += 1
            message = reply.json()["message"]
            if not re.search(r"\d+ bytes", message):
                problems.append(message)
            if _listing(disk) != before:
                problems.append(f"left: {sorted(_listing(disk) - before)}")
        elif reply.status != 200:
            problems.append(f"{reply.status}: {reply.body[:200]!r}")
        if server.predict("kept").status != 200:
            problems.append("the model before does not answer")
        server.manage("DELETE", f"/models/m{size_mib}")
        filler.unlink()
        for new in _listing(disk) - before:
            shutil.rmtree(disk / new, ignore_errors=True)
        if budget.is_over:
            break
    first = f"; first: {problems[0]}" if problems else ""
    return _outcome(tried, refused, len(problems), first)


def _outcome(tried: int, refused: int, failures: int, notes: str) -> Outcome:
    return Outcome(
        property="registrations while the disk is full: left behind, or another answer than 507",
        n=tried,
        bar="0",
        figure=str(failures),
        passed=failures == 0,
        failures=failures,
        unit="registration",
        notes=f"F15; {refused:,} refused with 507{notes}",
    )


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[Path | None]:
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "none", str(disk)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _listing(disk: Path) -> set[str]:
    """What lies in the cache."""
    return {str(path.relative_to(disk)) for path in disk.glob("cache/*")}


def _used_bytes(disk: Path) -> int:
    return shutil.disk_usage(disk).used


if __name__ == "__main__":
    standalone(run)
