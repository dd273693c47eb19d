"""The model store on disk: finds archives by name, fetches them by url, unpacks them into a cache.

Sole owner of the cache folder, where each archive lies once, under the digest of its bytes. Calls
block; several threads and several servers may share one cache. Knows nothing of registration.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from marserve.errors import (
    ArchiveNotFound,
    ArchiveRefused,
    DiskFull,
    DownloadFailed,
    InvalidInput,
    StoreMissing,
    TooManyDownloads,
)
from marserve.registry.remote_signature import fetch_signature
from marserve.registry.sources.allowed import AllowedUrls
from marserve.registry.sources.downloads import MAX_NAME_BYTES, Downloads
from marserve.registry.sources.fetcher import Fetcher
from marserve.registry.sources.landing import CannotFetch, shown
from marserve.registry.sources.remote_url import RemoteUrl, is_remote
from marserve.registry.trust import Expected, Rules, Trust
from marserve_archiver import (
    Archive,
    ArchiveError,
    Manifest,
    open_archive,
    remove_stale_partials,
)
from marserve_archiver.disk import DISK, write_new_file
from marserve_archiver.errors import ArchiveExists, InputMissing, NoSpace
from marserve_archiver.folder import entered
from marserve_archiver.signing import signature_path

_ARCHIVE_SUFFIXES: Final = (".mar", ".model", ".tar.gz", ".tgz")
_MAX_NAME_BYTES: Final = 255
OTHER_DIGEST: Final = "other-digest"
"""The reason of an ArchiveRefused whose digest is not the expected one."""
_NOT_FOUND: Final = "Model not found at: {}"
MAX_DOWNLOADS: Final = 8
"""Of one store, at once."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An archive as a folder that workers can load from."""

    model_dir: Path
    manifest: Manifest
    digest: str
    """sha256 of the archive's bytes, in hex; of a folder: of its names and contents."""
    is_folder: bool = False
    """It is served where it lies, and may change there."""

    @property
    def sha256(self) -> str | None:
        """The digest by which the archive is known again; None for a folder."""
        return None if self.is_folder else self.digest


class ModelStore:
    """The archives an operator put into one folder, and the cache they are unpacked to."""

    def __init__(
        self,
        root: Path | None,
        cache: Path,
        fetcher: Fetcher | None = None,
        rules: Rules | None = None,
    ) -> None:
        """Prepares both folders: removes what servers that were killed left half done in them.

        Args:
            root: the folder of archives; None when none is configured.
            cache: the folder to unpack to; made if it is missing.
            fetcher: gets archives from elsewhere; None: nothing is fetched.
            rules: what an archive has to show; None: nothing.
        """
        self._root = root
        self._trust = Trust(root, rules or Rules())
        self._cache = cache
        self._fetcher = fetcher or Fetcher(AllowedUrls())
        self._downloads = None if root is None else Downloads(root)
        self._busy: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._places = threading.BoundedSemaphore(MAX_DOWNLOADS)
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_stale_partials(cache)
        if self._downloads is not None:
            self._downloads.remove_stale()

    def find(self, url: str) -> Path:
        """The archive or model folder in the store that `url` names.

        Only the last part of a path counts: `/anywhere/noop.mar` is `noop.mar` in the store.

        Raises:
            StoreMissing: no store is configured.
            ArchiveNotFound: the store has no such archive, or the url leads out of it.
            InvalidInput: the url can be no file name.
        """
        root, _ = self._opened(url)
        if is_remote(url):
            raise ArchiveNotFound(f"Given URL {url} does not match any allowed URL(s)")
        if "\\" in url or not url.isprintable():
            raise InvalidInput(f"The url {url!r} holds a character that no archive's name has.")
        # TorchServe also served any directory of the machine when the url was an absolute path.
        # Whoever reaches the management port could so run code from wherever a file can be put
        # (an upload folder, /tmp), so here the store is all there is.
        name = _name_in_store(url)
        path = root / name
        if (
            not _is_file_name(name, _MAX_NAME_BYTES)
            or "://" in url
            or not (path.is_file() or path.is_dir())
        ):
            raise ArchiveNotFound(_NOT_FOUND.format(url))
        return path

    def fetch(
        self,
        url: str,
        s3_sse_kms: bool = False,
        *,
        again: bool = False,
        sha256: str | None = None,
    ) -> Path:
        """`find`, and what is elsewhere is downloaded into the store first. Blocks.

        A download gets its name in the store when it is complete, verified and unpacked.

        Args:
            url: a name in the store, or an https, http or file url that is allowed.
            s3_sse_kms: the request is signed for S3 with the credentials of the environment.
            again: after a restart, what an earlier call fetched from this url is found instead of
                refused, and a request that was signed then is signed again.
            sha256: the digest that a download must have.

        Raises:
            StoreMissing, ArchiveNotFound, InvalidInput: as `find` does; no entry of allowed_urls
                allows the url.
            ArchiveExistsInStore: the store has an archive of this name already.
            DownloadFailed: it cannot be had; nothing of it is left.
            TooManyDownloads: there are as many as may be at once.
            ArchiveRefused: what came is no archive to serve; nothing of it is left.
            DiskFull: there is no room to unpack it; nothing of it is left.
        """
        root, downloads = self._opened(url)
        if not is_remote(url):
            return self.find(url)
        if again:
            name = _name_in_store(url.partition("?")[0])
            noted = downloads.noted(name, url) if _is_file_name(name, MAX_NAME_BYTES) else None
            if noted is not None and (root / name).is_file():
                return root / name
            s3_sse_kms = s3_sse_kms or (noted is not None and noted.is_signed)
        permission = self._fetcher.permission(url)
        name = _checked_name(permission.url)
        try:
            with self._turn(again), downloads.writing(name) as partial:
                signature = self._fetched_signature(url, s3_sse_kms)  # small, so it comes first
                self._fetcher.fetch(permission, s3_sse_kms, partial.file)
                expected = Expected(name, sha256, signature)
                self._unpack(partial.path, f"What {url} sent", expected)
                with self._kept_signature(root / name, signature):
                    return downloads.publish(partial, name, url, s3_sse_kms)
        except CannotFetch as error:
            raise _download_failed(url, str(error)) from error
        except OSError as error:
            reason = f"the model store cannot take it: {shown(error)}"
            raise _download_failed(url, reason) from error

    def forget(self, url: str, in_use: Collection[str] = ()) -> None:
        """Remove the archive that was fetched from `url`; one that was not fetched is kept.

        Args:
            url: of the registration that ended, or did not come about.
            in_use: the urls of all other registrations; an archive that one of them names is kept.
        """
        if self._downloads is None or not is_remote(url) or url in in_use:
            return
        name = _name_in_store(url.partition("?")[0])
        if not _is_file_name(name, MAX_NAME_BYTES):
            return
        origin = self._downloads.origin(name)
        if origin is not None and origin.url == url:
            used = {_name_in_store(other) for other in in_use if not is_remote(other)}
            with suppress(OSError):  # a store that became read-only keeps it
                self._downloads.forget(name, keep=name in used)
                if name not in used and self._root is not None:
                    signature_path(self._root / name).unlink(missing_ok=True)

    def unpack(self, path: Path, sha256: str | None = None) -> Unpacked:
        """The archive as a folder. Blocks; unpacks nothing when the cache has it already.

        A folder is served where it lies. An archive replaced while this runs is either the old
        one or the new one, never a mixture.

        Args:
            path: what `find` or `fetch` returned.
            sha256: the digest that it must have.

        Raises:
            ArchiveNotFound: the archive is gone.
            ArchiveRefused: it is broken, hostile, incomplete or not trusted.
            DiskFull: there is no room to unpack it; nothing of it is left.
        """
        return self._unpack(path, path.name, Expected(path.name, sha256))

    def all_archives(self) -> tuple[str, ...]:
        """The names of all archives and model folders in the store, sorted."""
        if self._root is None or not self._root.is_dir():
            return ()
        return tuple(sorted(path.name for path in self._root.iterdir() if self._is_model(path)))

    def _opened(self, url: str) -> tuple[Path, Downloads]:
        """The store, for a url that does not try to leave it."""
        if self._root is None or self._downloads is None:
            raise StoreMissing
        if not url:
            raise ArchiveNotFound("empty url")
        if ".." in url:
            raise ArchiveNotFound(f"Relative path is not allowed in url: {url}")
        return self._root, self._downloads

    def _unpack(self, path: Path, shown_name: str, expected: Expected) -> Unpacked:
        try:
            with open_archive(path, check=self._trust.check(expected)) as archive:
                if archive.folder is not None:
                    self._trust.check_folder(expected)
                    digest = archive.sha256()
                    return Unpacked(archive.folder, archive.manifest, digest, is_folder=True)
                # the digest of what was checked: nothing else counts as unpacked already
                digest = archive.sha256()
                return Unpacked(self._cached(archive, digest), archive.manifest, digest)
        except InputMissing as error:
            raise ArchiveNotFound(_NOT_FOUND.format(path.name)) from error
        except NoSpace as error:
            full = f"{shown_name} cannot be unpacked: {error}"
            raise DiskFull(full, error.needed_bytes) from error
        except ArchiveError as error:
            raise ArchiveRefused(f"{shown_name} is refused: {error}", error.reason) from error
        except OSError as error:
            raise ArchiveRefused(f"{shown_name} cannot be unpacked: {error}.") from error

    def _cached(self, archive: Archive, digest: str) -> Path:
        target = self._cache / digest
        # threads wait for each other, so that the disk is filled once; between processes
        # whoever is first to rename wins, and the other one's copy is dropped
        with self._alone(digest):
            if not target.is_dir():
                with suppress(ArchiveExists):
                    archive.extract(target)
        return target

    def _fetched_signature(self, url: str, s3_sse_kms: bool) -> bytes | None:
        """The signature of a download; None where nobody asks for one."""
        if not self._trust.rules.require_signed:
            return None
        signature = fetch_signature(self._fetcher, url, s3_sse_kms, self._cache)
        try:
            self._trust.check_beforehand(signature)
        except ArchiveError as error:
            raise ArchiveRefused(f"What {url} names is refused: {error}", error.reason) from error
        return signature

    @contextmanager
    def _kept_signature(self, archive: Path, signature: bytes | None) -> Iterator[None]:
        """The signature beside the archive that the block gives its name, or neither."""
        path = signature_path(archive)
        if signature is None:
            yield
            return
        path.unlink(missing_ok=True)  # of an archive that is gone
        write_new_file(DISK, path, signature, 0o644)
        try:
            yield
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    @contextmanager
    def _turn(self, waits: bool) -> Iterator[None]:
        """A place among the downloads. A start waits for its turn; a client is told to come back.

        Slow senders hold their places for long, and each place is a thread of the server.
        """
        if not self._places.acquire(blocking=waits):
            raise TooManyDownloads(
                f"{MAX_DOWNLOADS} archives are being fetched, which is as many as may be at once. "
                "Try again later."
            )
        try:
            yield
        finally:
            self._places.release()

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


def _name_in_store(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2]


def _is_file_name(name: str, max_bytes: int) -> bool:
    return bool(name) and not name.startswith(".") and len(name.encode()) <= max_bytes


def _checked_name(url: RemoteUrl) -> str:
    if not _is_file_name(url.file_name, MAX_NAME_BYTES):
        raise ArchiveNotFound(_NOT_FOUND.format(url.text))
    return url.file_name


def _download_failed(url: str, reason: str) -> DownloadFailed:
    return DownloadFailed(f"Failed to download archive from: {url} ({reason})")
