"""A model that is a folder: plain files, with or without `MAR-INF/MANIFEST.json`.

Lists what a packed archive of the folder would hold. Links are followed as long as they stay
inside the folder.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from os import stat_result
from pathlib import Path
from typing import Final

from marserve_archiver.errors import Malformed, TooLarge, Unreadable, Unsafe
from marserve_archiver.inflate import PIECE_BYTES
from marserve_archiver.members import Limits, Member

_MAX_LINKS: Final = 1000
"""Links to folders of links multiply, and each takes a while to follow."""
_SKIPPED: Final = frozenset(["__pycache__", "__MACOSX"])


def is_skipped_directory(name: str) -> bool:
    """Whether a directory of this name belongs to tools, not to the model.

    Caches in particular change by being used; a model's digest must not.
    """
    return name in _SKIPPED or name.startswith(".")


def entered(path: Path) -> Path:
    """The folder itself, or the one directory that is all it holds (as TorchServe enters it)."""
    children = [child for child in path.iterdir() if not child.name.startswith(".")]
    if len(children) == 1 and children[0].is_dir() and children[0].name != "MAR-INF":
        return children[0]
    return path


class Folder:
    """A folder of files, read in place."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.kind: Final = "folder"
        self.path = entered(path)
        self._root = self.path.resolve()
        self._limits = limits
        self._files: dict[str, Path] = {}
        self._count = self._links = 0
        self.members = tuple(sorted(self._scan(self.path, "", ()), key=lambda member: member.name))

    def pieces(self, member: Member) -> Iterator[bytes]:
        """The content of one member.

        Raises:
            Malformed: the file has another size now than when the folder was listed.
        """
        size_bytes = 0
        if not member.is_directory:
            with self._files[member.name].open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    size_bytes += len(piece)
                    yield piece
        if size_bytes != member.size_bytes:
            raise Malformed("changed", f"{member.name!r} was changed while it was read; try again.")

    def walk(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Each member with its content, sorted by name."""
        for member in self.members:
            yield member, self.pieces(member)

    def close(self) -> None:
        """Nothing is held open."""

    def _scan(self, folder: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[Member]:
        real = folder.resolve()
        if real in above:
            raise Unsafe("link", f"The link {prefix.rstrip('/')!r} leads back to its own folder.")
        if len(above) >= self._limits.max_depth:
            raise TooLarge(
                "too-deep", f"{prefix[:60]!r}… lies deeper than {self._limits.max_depth} levels."
            )
        for path in self._children(folder):
            name = prefix + path.name
            status = self._status(path, name)
            if stat.S_ISDIR(status.st_mode):
                if is_skipped_directory(path.name):
                    continue
                yield Member(name, True, 0, 0, "plain")
                yield from self._scan(path, f"{name}/", (*above, real))
            elif stat.S_ISREG(status.st_mode):
                self._files[name] = path
                yield Member(name, False, status.st_size, status.st_size, "plain")
            else:
                raise Unsafe("special-file", f"{name!r} is neither a file nor a directory.")

    def _children(self, folder: Path) -> list[Path]:
        """What lies in a folder, counted: links to folders of links would have no end."""
        children = []
        for child in folder.iterdir():
            self._count += 1
            if self._count > self._limits.max_members:
                raise TooLarge(
                    "too-many-members",
                    f"The folder has more than {self._limits.max_members} files and folders.",
                )
            children.append(child)
        return sorted(children)

    def _status(self, path: Path, name: str) -> stat_result:
        try:
            if path.is_symlink():
                self._check_link(path, name)
            return path.stat()
        except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
            raise Unreadable("unreadable", f"{name!r} cannot be read: {error}.") from error

    def _check_link(self, path: Path, name: str) -> None:
        self._links += 1
        if self._links > _MAX_LINKS:
            raise TooLarge(
                "too-many-members", f"The folder has more than {_MAX_LINKS} links; copy the files."
            )
        if not path.resolve().is_relative_to(self._root):
            raise Unsafe("link", f"The link {name!r} leaves the folder; put the file itself there.")
