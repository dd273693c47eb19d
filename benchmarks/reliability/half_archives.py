"""F18: archives that are being written, cut short, or renamed into place while they are asked for.

Half an archive is refused with a clear reason; what is accepted is whole; once it is whole it is
accepted.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "harness"))

from budget import Budget
from outcome import Outcome
from standalone import standalone

from marserve.errors import ArchiveNotFound, ArchiveRefused
from marserve.registry.store import ModelStore
from marserve_archiver import Recipe, pack

EACH_S = 0.02
WAYS = ("slow writer", "cut short", "renamed")


def run(budget: Budget) -> Outcome:
    """One third of the trials for each way."""
    with tempfile.TemporaryDirectory(prefix="marserve-half-") as name:
        root = Path(name)
        (root / "store").mkdir()
        (root / "net.pt").write_bytes(random.Random(1).randbytes(60_000))
        recipe = Recipe("m", "1.0", "base_handler", serialized_file=root / "net.pt")
        whole = pack(recipe, root).read_bytes()
        roll = random.Random(budget.seed)
        problems: list[str] = []
        tried = refused = 0
        for number in range(budget.trials(1000, EACH_S)):
            way = WAYS[number % len(WAYS)]
            refused += _trial(root, whole, way, roll, problems, number)
            tried += 1
            if budget.is_over:
                break
    return Outcome(
        property="archives that are only half there: loaded, or refused when they are whole",
        n=tried,
        bar="0",
        figure=str(len(problems)),
        passed=not problems,
        failures=len(problems),
        unit="archive",
        notes=f"F18; {refused:,} refusals on the way"
        + (f"; first: {problems[0]}" if problems else ""),
    )


def _trial(
    root: Path, whole: bytes, way: str, roll: random.Random, problems: list[str], number: int
) -> int:
    """Asks until the archive is accepted, and once more; how often it was refused."""
    path = root / "store" / "m.mar"
    path.unlink(missing_ok=True)
    store = ModelStore(root / "store", root / "cache" / str(number))
    writer = threading.Thread(target=_write, args=(path, whole, way, roll.random()))
    writer.start()
    refused = 0
    while writer.is_alive():
        refused += not _is_whole(store, path, root, problems)
    writer.join()
    if not _is_whole(store, path, root, problems):
        problems.append(f"{way}: refused when it was whole")
    return refused


def _is_whole(store: ModelStore, path: Path, root: Path, problems: list[str]) -> bool:
    try:
        found = (store.unpack(path).model_dir / "net.pt").read_bytes()
    except (ArchiveRefused, ArchiveNotFound):
        return False
    if found != (root / "net.pt").read_bytes():
        problems.append("half an archive was accepted")
    return True


def _write(path: Path, whole: bytes, way: str, where: float) -> None:
    at = int(len(whole) * where)
    pause = threading.Event()
    if way == "slow writer":
        with path.open("wb", buffering=0) as file:
            for start in range(0, len(whole), 8192):
                file.write(whole[start : start + 8192])
                pause.wait(0.001)
    elif way == "cut short":
        path.write_bytes(whole[:at])
        pause.wait(0.005)
        path.write_bytes(whole)
    else:
        for content in (whole[:at], whole):
            new = path.with_name("new")
            new.write_bytes(content)
            new.replace(path)
            pause.wait(0.005)


if __name__ == "__main__":
    standalone(run)
