"""SEC-18: an archive in a store that somebody rewrites all the time while it is unpacked.

By name (links and files moved over it) and in place (its bytes overwritten, its times put back).
Whatever is accepted is one of the two archives, whole, under its own digest.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from marserve.errors import ArchiveNotFound, ArchiveRefused
from marserve.registry.store import ModelStore
from marserve_archiver import Recipe, pack

WAYS = ("links", "files", "in place", "torn")
_WEIGHTS_BYTES = 3 << 20
"""So large that a reader is overtaken."""


class SwappedStore:
    """A store with one archive, `m.mar`, that is one of two."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "store" / "m.mar"
        self.path.parent.mkdir()
        self.packed = [_packed(root / f"packed{index}", index) for index in range(2)]
        self.contents = [path.read_bytes() for path in self.packed]
        assert len(self.contents[0]) == len(self.contents[1])
        self.weights = {
            hashlib.sha256(content).hexdigest(): _weights(index)
            for index, content in enumerate(self.contents)
        }
        self.path.write_bytes(self.contents[0])

    def unpack(self, times: int, way: str) -> tuple[int, int, int]:
        """Unpacks `times` times; how often it was accepted and refused, and how many swaps
        there were meanwhile.

        Raises:
            AssertionError: something was accepted that is neither of the two.
        """
        accepted = refused = 0
        with self._swapping(way) as swaps:
            for number in range(times):
                # a cache of its own each time: what is there already would not be read again
                cache = self.root / "cache" / f"{way}-{number}"
                try:
                    unpacked = ModelStore(self.path.parent, cache).unpack(self.path)
                except (ArchiveRefused, ArchiveNotFound):
                    refused += 1
                    continue
                accepted += 1
                found = (unpacked.model_dir / "net.pt").read_bytes()
                assert found == self.weights.get(unpacked.digest), unpacked.digest
                (unpacked.model_dir / "net.pt").unlink()
            return accepted, refused, swaps()

    @contextmanager
    def _swapping(self, way: str) -> Iterator[Callable[[], int]]:
        stop = threading.Event()
        swaps = 0

        def swap() -> None:
            nonlocal swaps
            while not stop.wait(0.0005):
                swaps += 1
                self._swap(way, swaps % 2)

        thread = threading.Thread(target=swap)
        thread.start()
        try:
            yield lambda: swaps
        finally:
            stop.set()
            thread.join()
            self.path.unlink(missing_ok=True)
            self.path.write_bytes(self.contents[0])

    def _swap(self, way: str, turn: int) -> None:
        new = self.path.with_name("new")
        if way == "links":
            new.symlink_to(self.packed[turn])
            new.replace(self.path)
        elif way == "files":
            new.write_bytes(self.contents[turn])
            new.replace(self.path)
        else:
            times = self.path.stat()
            descriptor = os.open(self.path, os.O_WRONLY)
            try:
                content = self.contents[turn]
                half = len(content) // 2 if way == "torn" else 0
                os.pwrite(descriptor, content[half:], half)
            finally:
                os.close(descriptor)
            os.utime(self.path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _packed(folder: Path, index: int) -> Path:
    folder.mkdir()
    (folder / "net.pt").write_bytes(_weights(index))
    recipe = Recipe("m", "1.0", "base_handler", serialized_file=folder / "net.pt")
    return pack(recipe, folder, "zip-store")


def _weights(index: int) -> bytes:
    return bytes([index + 1]) * _WEIGHTS_BYTES
