"""F17: every single-bit flip of small archives: refused, or the very same content.

With a signature every flip is refused, because the signature is that of the bytes.
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "harness"))

from budget import Budget
from outcome import Outcome
from standalone import standalone

from marserve_archiver import ArchiveError, Recipe, open_archive, pack
from marserve_archiver.signing import SignatureCheck, make_key, sign, trusted_keys

RELEASE_S = 300.0
EACH_S = 0.0006


def run(budget: Budget) -> list[Outcome]:
    """A zip file and a gzipped tar file, unsigned; and the zip file signed."""
    with tempfile.TemporaryDirectory(prefix="marserve-flips-") as name:
        folder = Path(name)
        (folder / "h.py").write_text("def handle(data, context):\n    return data\n" * 6)
        (folder / "net.pt").write_bytes(random.Random(1).randbytes(600))
        recipe = Recipe("m", "1.0", str(folder / "h.py"), serialized_file=folder / "net.pt")
        archives = [pack(recipe, folder, form) for form in ("default", "tgz")]
        make_key(folder / "k.pem")
        signature = sign(archives[0], folder / "k.pem", "2026-05-01T10:00:00Z")
        check = SignatureCheck(signature, trusted_keys((folder / "k.pub.pem",)))
        return [
            *(_flipped(path, budget.share(0.4)) for path in archives),
            _flipped(archives[0], budget.share(0.2), check),
        ]


def _flipped(path: Path, budget: Budget, check: SignatureCheck | None = None) -> Outcome:
    whole = path.read_bytes()
    expected = None if check else _content(path, None)
    tried = refused = failures = 0
    first = ""
    for at, bit in _places(len(whole), budget):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << bit
        path.write_bytes(damaged)
        found = _content(path, check)
        tried += 1
        refused += found is None
        if found is not None and found != expected:
            failures += 1
            first = first or f"; first: byte {at}, bit {bit}"
        if budget.is_over:
            break
    path.write_bytes(whole)
    kind = "signed " if check else ""
    return Outcome(
        property=f"single-bit flips of a {kind}{path.name.partition('.')[2]}: other content taken",
        n=tried,
        bar="0",
        figure=str(failures),
        passed=failures == 0,
        failures=failures,
        unit="flip",
        notes=f"F17; {refused:,} refused, {len(whole) * 8:,} flips are all there are{first}",
    )


def _places(size_bytes: int, budget: Budget) -> Iterator[tuple[int, int]]:
    """Every bit, or as many as the budget allows, in an order of chance."""
    bits = list(range(size_bytes * 8))
    random.Random(budget.seed).shuffle(bits)
    for position in bits[: budget.trials(len(bits), EACH_S)]:
        yield divmod(position, 8)


def _content(path: Path, check: SignatureCheck | None) -> dict[str, bytes] | None:
    """All that an archive holds; None when it is refused."""
    try:
        with open_archive(path, check=check) as archive:
            found = {}
            for member, pieces in archive.walk():
                content = io.BytesIO()
                content.writelines(pieces)
                found[member.name] = content.getvalue()
            return found
    except ArchiveError:
        return None


if __name__ == "__main__":
    standalone(run)
