"""The model store on disk: finds archives by name and unpacks them into a cache.

Sole owner of the cache folder, where each archive lies once, under the digest of its bytes. Calls
block; several threads and several servers may share one cache. Knows nothing of registration.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from marserve.errors import ArchiveNotFound, ArchiveRefused, InvalidInput, StoreMissing
from marserve_archiver import (
    Archive,
    ArchiveError,
    Manifest,
    open_archive,
    remove_stale_partials,
)
from marserve_archiver.errors import ArchiveExists, InputMissing
from marserve_archiver.folder import entered

_ARCHIVE_SUFFIXES: Final = (".mar", ".model", ".tar.gz", ".tgz")
_REMOTE: Final = re.compile(r"(?:https?|file|s3)://", re.IGNORECASE)
_MAX_NAME_BYTES: Final = 255


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An archive as a folder that workers can load from."""

    model_dir: Path
    manifest: Manifest
    digest: str
    """sha256 of the archive's bytes, in hex; of a folder: of its names and contents."""


class ModelStore:
    """The archives an operator put into one folder, and the cache they are unpacked to."""

    def __init__(self, root: Path | None, cache: Path) -> None:
        """Prepares the cache, and removes from it what servers that were killed left half done.

        Args:
            root: the folder of archives; None when none is configured.
            cache: the folder to unpack to; made if it is missing.
        """
        self._root = root
        self._cache = cache
        self._busy: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_stale_partials(cache)

    def find(self, url: str) -> Path:
        """The archive or model folder that `url` names.

        Only the last part of a path counts: `/anywhere/noop.mar` is `noop.mar` in the store.

        Raises:
            StoreMissing: no store is configured.
            ArchiveNotFound: the store has no such archive, or the url leads out of it.
            InvalidInput: the url can be no file name.
        """
        if self._root is None:
            raise StoreMissing
        if not url:
            raise ArchiveNotFound("empty url")
        if ".." in url:
            raise ArchiveNotFound(f"Relative path is not allowed in url: {url}")
        if _REMOTE.match(url):
            raise ArchiveNotFound(f"Given URL {url} does not match any allowed URL(s)")
        if "\\" in url or not url.isprintable():
            raise InvalidInput(f"The url {url!r} holds a character that no archive's name has.")
        # TorchServe also served any directory of the machine when the url was an absolute path.
        # Whoever reaches the management port could so run code from wherever a file can be put
        # (an upload folder, /tmp), so here the store is all there is.
        name = url.rstrip("/").rpartition("/")[2]
        path = self._root / name
        if (
            not name
            or "://" in url
            or name.startswith(".")
            or len(name.encode()) > _MAX_NAME_BYTES
            or not (path.is_file() or path.is_dir())
        ):
            raise ArchiveNotFound(f"Model not found at: {url}")
        return path

    def unpack(self, path: Path) -> Unpacked:
        """The archive as a folder. Blocks; unpacks nothing when the cache has it already.

        A folder is served where it lies. An archive replaced while this runs is either the old
        one or the new one, never a mixture.

        Raises:
            ArchiveNotFound: the archive is gone.
            ArchiveRefused: it is broken, hostile, incomplete, or there is no room to unpack it.
        """
        try:
            with open_archive(path) as archive:
                digest = archive.sha256()
                model_dir = archive.folder or self._cached(archive, digest)
                return Unpacked(model_dir, archive.manifest, digest)
        except InputMissing as error:
            raise ArchiveNotFound(f"Model not found at: {path.name}") from error
        except ArchiveError as error:
            raise ArchiveRefused(f"{path.name} is refused: {error}") from error
        except OSError as error:
            raise ArchiveRefused(f"{path.name} cannot be unpacked: {error}.") from error

    def all_archives(self) -> tuple[str, ...]:
        """The names of all archives and model folders in the store, sorted."""
        if self._root is None or not self._root.is_dir():
            return ()
        return tuple(sorted(path.name for path in self._root.iterdir() if self._is_model(path)))

    def _cached(self, archive: Archive, digest: str) -> Path:
        target = self._cache / digest
        # threads wait for each other, so that the disk is filled once; between processes
        # whoever is first to rename wins, and the other one's copy is dropped
        with self._alone(digest):
            if not target.is_dir():
                with suppress(ArchiveExists):
                    archive.extract(target)
        return target

    @contextmanager
    def _alone(self, digest: str) -> Iterator[None]:
        with self._guard:
            lock = self._busy.setdefault(digest, threading.Lock())
        with lock:
            yield

    def _is_model(self, path: Path) -> bool:
        if path.name.startswith("."):
            return False
        if path.is_dir():
            return path.resolve() != self._cache.resolve() and _is_model_folder(path)
        return path.is_file() and path.name.endswith(_ARCHIVE_SUFFIXES)


def _is_model_folder(path: Path) -> bool:
    """Whether a folder holds a manifest, itself or in the one directory that is all it holds."""
    try:
        return (entered(path) / "MAR-INF").is_dir()
    except OSError:  # not ours to read, so not ours to serve
        return False
