"""A disk in memory that forgets at a power cut what was not synced, and one that fails on demand.

`FakeDisk` knows two states of everything: what programs see, and what would be there after a cut.
Between them stand changes that are under way, and any subset of those may survive: names that were
set, moved or removed in a folder, and the content of files, whole, torn or zeros. `cuts` yields the
disks that a cut at this moment may leave.

`FaultyDisk` stands before any disk, counts its calls, and lets one of them fail, fall short, or end
the process.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marserve_archiver.disk import Disk

MOST_CUTS = 512
"""More possible states than these are sampled."""


class SuddenEnd(BaseException):
    """The process is no more."""


@dataclass(eq=False)
class Node:
    """A file (`names` None) or a folder."""

    names: dict[str, Node] | None = None
    kept_names: dict[str, Node] = field(default_factory=dict)
    pending: list[list[tuple[str, Node | None]]] = field(default_factory=list)
    """Changes of names that are not synced, each as (name, what it means or None)."""
    content: bytearray = field(default_factory=bytearray)
    kept: bytes = b""


class FakeDisk(Disk):
    """Starts with an empty root folder. Descriptors are not reused."""

    def __init__(self, root: Node | None = None) -> None:
        self.root = root or Node(names={})
        self._open: dict[int, Node] = {}
        self._next = itertools.count(1000)

    # --- what programs do ---

    def make_folder(self, path: str | Path, mode: int = 0o777, at: int | None = None) -> None:
        folder, name = self._place(path)
        if name in _names(folder):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._change(folder, (name, Node(names={})))

    def open_folder(self, path: str | Path, at: int | None = None) -> int:
        node = self._at(path)
        _names(node)
        return self._opened(node)

    def create(self, path: str | Path, mode: int, at: int | None = None) -> int:
        folder, name = self._place(path)
        if name in _names(folder):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        node = Node()
        self._change(folder, (name, node))
        return self._opened(node)

    def write(self, descriptor: int, piece: bytes | memoryview) -> int:
        self._open[descriptor].content += piece
        return len(piece)

    def sync(self, descriptor: int) -> None:
        node = self._open[descriptor]
        if node.names is None:
            node.kept = bytes(node.content)
        else:
            node.kept_names, node.pending = dict(node.names), []

    def close(self, descriptor: int) -> None:
        del self._open[descriptor]

    def rename(self, source: Path, target: Path) -> None:
        folder, name = self._place(source)
        other, new_name = self._place(target)
        assert folder is other, "renames stay in one folder"
        node = self._at(source)
        if _names(folder).get(new_name) is not node:  # two names of one file: nothing happens
            self._change(folder, (name, None), (new_name, node))

    def link(self, source: Path, target: Path) -> None:
        folder, name = self._place(target)
        if name in _names(folder):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._change(folder, (name, self._at(source)))

    def remove(self, path: Path) -> None:
        self._at(path)
        folder, name = self._place(path)
        self._change(folder, (name, None))

    def exists(self, path: Path) -> bool:
        try:
            self._at(path)
        except FileNotFoundError:
            return False
        return True

    def read(self, path: Path) -> bytes:
        return bytes(self._at(path).content)

    def free_bytes(self, descriptor: int) -> int:
        return 1 << 40

    def listing(self, path: Path) -> list[str]:
        """The names in a folder."""
        return sorted(_names(self._at(path)))

    def put(self, path: Path, content: bytes) -> None:
        """A file with this content, as if it had always been there."""
        folder, name = self._place(path)
        node = Node(content=bytearray(content), kept=content)
        _names(folder)[name] = folder.kept_names[name] = node

    # --- what a power cut does ---

    def cuts(self, roll: random.Random) -> Iterator[FakeDisk]:
        """Every disk that a power cut may leave now; a sample, where there are very many."""
        choices = list(_choices(self.root))
        count = 1
        for choice in choices:
            count *= len(choice)
        if count <= MOST_CUTS:
            picks: Iterator[tuple[Any, ...]] = itertools.product(*choices)
        else:
            picks = (tuple(roll.choice(one) for one in choices) for _ in range(MOST_CUTS))
        for pick in picks:
            yield FakeDisk(_rebuilt(self.root, dict(pick), {}))

    # --- inside ---

    def _at(self, path: str | Path) -> Node:
        node = self.root
        for part in Path(path).parts[1:]:
            names = _names(node)
            if part not in names:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            node = names[part]
        return node

    def _place(self, path: str | Path) -> tuple[Node, str]:
        return self._at(Path(path).parent), Path(path).name

    def _opened(self, node: Node) -> int:
        descriptor = next(self._next)
        self._open[descriptor] = node
        return descriptor

    def _change(self, folder: Node, *changes: tuple[str, Node | None]) -> None:
        _apply(_names(folder), changes)
        folder.pending.append(list(changes))


def _names(node: Node) -> dict[str, Node]:
    if node.names is None:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return node.names


def _apply(names: dict[str, Node], changes: Any) -> None:
    for name, node in changes:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _nodes(node: Node, seen: set[int]) -> Iterator[Node]:
    """All that may be there after a cut, whatever survives."""
    if id(node) in seen:
        return
    seen.add(id(node))
    yield node
    later = [one for group in node.pending for _, one in group if one is not None]
    for child in [*node.kept_names.values(), *later]:
        yield from _nodes(child, seen)


def _choices(root: Node) -> Iterator[list[tuple[int, Any]]]:
    """For each node in doubt, the states it may be found in."""
    for node in _nodes(root, set()):
        if node.names is not None and node.pending:
            subsets = itertools.product((False, True), repeat=len(node.pending))
            yield [(id(node), subset) for subset in subsets]
        elif node.names is None and bytes(node.content) != node.kept:
            content = bytes(node.content)
            found = {node.kept, content, content[: len(content) // 2], bytes(len(content)), b""}
            yield [(id(node), one) for one in sorted(found)]


def _rebuilt(node: Node, pick: dict[int, Any], done: dict[int, Node]) -> Node:
    if id(node) in done:  # two names of one file
        return done[id(node)]
    if node.names is None:
        content = pick.get(id(node), node.kept)
        done[id(node)] = Node(content=bytearray(content), kept=content)
        return done[id(node)]
    names = dict(node.kept_names)
    for survives, group in zip(pick.get(id(node), ()), node.pending, strict=False):
        if survives:
            _apply(names, group)
    rebuilt = {name: _rebuilt(child, pick, done) for name, child in names.items()}
    return Node(names=rebuilt, kept_names=dict(rebuilt))


# --- a disk that fails ---------------------------------------------------------------------------

FAULTS: dict[str, Callable[[], BaseException]] = {
    "EIO": lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
    "ENOSPC": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "short": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "end before": SuddenEnd,
    "end after": SuddenEnd,
}
"""`short`: a write takes half, and the next one nothing. `end`: of the process, before the call has
done anything, or after it has."""


class FaultyDisk(Disk):
    """Call number `fails_at` of `below` meets the fault; None: nothing fails."""

    def __init__(self, below: Disk, fails_at: int | None = None, fault: str = "EIO") -> None:
        self.below = below
        self.fails_at = fails_at
        self.fault = fault
        self.log: list[tuple[str, tuple[Any, ...]]] = []
        self.was_hit = False

    def make_folder(self, path: str | Path, mode: int = 0o777, at: int | None = None) -> None:
        self._call("make_folder", path, mode, at)

    def open_folder(self, path: str | Path, at: int | None = None) -> int:
        return int(self._call("open_folder", path, at))

    def create(self, path: str | Path, mode: int, at: int | None = None) -> int:
        return int(self._call("create", path, mode, at))

    def write(self, descriptor: int, piece: bytes | memoryview) -> int:
        if self.fault == "short" and len(self.log) == self.fails_at and len(piece) > 1:
            self.log.append(("write", (descriptor, piece)))
            self.fails_at += 1
            return self.below.write(descriptor, piece[: len(piece) // 2])
        return int(self._call("write", descriptor, piece))

    def sync(self, descriptor: int) -> None:
        self._call("sync", descriptor)

    def close(self, descriptor: int) -> None:
        self.below.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._call("rename", source, target)

    def link(self, source: Path, target: Path) -> None:
        self._call("link", source, target)

    def remove(self, path: Path) -> None:
        self._call("remove", path)

    def exists(self, path: Path) -> bool:
        return self.below.exists(path)

    def read(self, path: Path) -> bytes:
        return bytes(self._call("read", path))

    def free_bytes(self, descriptor: int) -> int:
        return self.below.free_bytes(descriptor)

    def _call(self, name: str, *given: Any) -> Any:
        number = len(self.log)
        self.log.append((name, given))
        if number != self.fails_at:
            return getattr(self.below, name)(*given)
        self.was_hit = True
        if self.fault == "end after":
            with suppress(OSError):
                done = getattr(self.below, name)(*given)
                if name in ("create", "open_folder"):
                    self.below.close(done)
        raise FAULTS[self.fault]()
