"""SEC-04b: archives that we accept are extracted byte for byte alike by zipfile, unzip and bsdtar.

Honest and odd archives, and hundreds of mutations of them; most mutations are refused, and what is
accepted has to mean the same to everybody. Readers that are not installed are left out and named.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "harness"))

import zipfile_deflate64
from budget import Budget
from honest_zips import HONEST
from outcome import Outcome
from standalone import standalone

from marserve_archiver import ArchiveError, open_archive

EACH_S = 0.02
_ODD = (
    "descriptor flag without descriptor",  # legal for us, unknown to unzip
    "a name in code page 437",  # names depend on the reader's locale
    "a name in UTF-8, not flagged",
    "a name in UTF-8, flagged",
    "no file at all",  # unzip calls it a failure
)

Reader = Callable[[Path, Path], bool]


def run(budget: Budget) -> list[Outcome]:
    """One outcome for each reader that is here."""
    trials = budget.trials(5000, EACH_S)
    roll = random.Random(budget.seed)
    bases = [content for name, content in HONEST.items() if name not in _ODD]
    readers: dict[str, Reader] = {"zipfile": _zipfile}
    readers |= {name: one for name, one in _TOOLS.items() if shutil.which(name)}
    accepted = 0
    differing: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    first: dict[str, str] = {}
    made = 0
    for number in range(trials):
        content = bases[number] if number < len(bases) else _mutated(roll.choice(bases), roll)
        made += 1
        with tempfile.TemporaryDirectory(prefix="marserve-readers-") as folder:
            path = Path(folder) / "x.mar"
            path.write_bytes(content)
            ours = _extracted(path, Path(folder) / "ours", _ours)
            if ours is not None:
                accepted += 1
                for name, reader in readers.items():
                    theirs = _extracted(path, Path(folder) / name, reader)
                    if theirs is None:
                        refused[name] += 1
                    elif theirs != ours:
                        differing[name] += 1
                        first.setdefault(name, content.hex())
        if budget.is_over:
            break
    missing = sorted({"unzip", "bsdtar"} - readers.keys())
    return [
        Outcome(
            property=f"archives that we accept, read by {name}: other content",
            n=accepted,
            bar="0",
            figure=str(differing[name]),
            passed=differing[name] == 0,
            failures=differing[name],
            unit="archive",
            notes=f"SEC-04b; of {made:,} archives; {refused[name]} refused by {name} alone"
            + (f"; not installed: {', '.join(missing)}" if missing else "")
            + (f"; first: {first[name]}" if name in first else ""),
        )
        for name in readers
    ]


def _mutated(content: bytes, roll: random.Random) -> bytes:
    """One to three bytes changed, in the headers more often than in the data."""
    changed = bytearray(content)
    marks = [at for mark in (b"PK\1\2", b"PK\3\4", b"PK\5\6") if (at := content.find(mark)) >= 0]
    for _ in range(roll.randint(1, 3)):
        at = roll.choice(marks) + roll.randrange(46) if roll.random() < 0.7 else 0
        at = at if 0 < at < len(changed) else roll.randrange(len(changed))
        changed[at] = roll.choice([0, 1, 0xFF, changed[at] ^ 1 << roll.randrange(8)])
    return bytes(changed)


def _extracted(path: Path, target: Path, reader: Reader) -> dict[str, bytes] | None:
    """Every file by its name; None when the reader refuses."""
    if not reader(path, target):
        return None
    return {
        str(one.relative_to(target)): one.read_bytes() for one in target.rglob("*") if one.is_file()
    }


def _ours(path: Path, target: Path) -> bool:
    try:
        with open_archive(path, check=lambda _: None) as archive:
            archive.extract(target)
    except ArchiveError:
        return False
    return True


def _zipfile(path: Path, target: Path) -> bool:
    target.mkdir()
    try:
        with zipfile_deflate64.ZipFile(path) as archive:
            archive.extractall(target)
    except Exception:  # noqa: BLE001  it knows many
        return False
    return True


def _unzip(path: Path, target: Path) -> bool:
    target.mkdir()
    command = ["unzip", "-qq", "-o", "-UU", str(path), "-d", str(target)]
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0


def _bsdtar(path: Path, target: Path) -> bool:
    target.mkdir()
    command = ["bsdtar", "-x", "-f", str(path), "-C", str(target)]
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0


_TOOLS: dict[str, Reader] = {"unzip": _unzip, "bsdtar": _bsdtar}


if __name__ == "__main__":
    standalone(run)
