"""Packs a collection of files into an archive, atomically.

The archive is written under a hidden name beside its target, read back by the same code that
serves it, and only then given its name: a failed pack leaves nothing, and nothing that this
package writes is refused when it is read.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Literal, get_args

from marserve_archiver.archive import open_archive
from marserve_archiver.collect import Collection, Recipe, Source, collect
from marserve_archiver.disk import sync_folder
from marserve_archiver.errors import ArchiveError, ArchiveExists, InputInvalid
from marserve_archiver.extraction import PARTIAL_SUFFIX
from marserve_archiver.manifest import MANIFEST_NAME
from marserve_archiver.writers import OnProgress, Progress, write_folder, write_tgz, write_zip

ArchiveFormat = Literal["default", "zip-store", "tgz", "no-archive"]
ARCHIVE_FORMATS: Final[tuple[ArchiveFormat, ...]] = get_args(ArchiveFormat)
_SUFFIXES: Final[dict[ArchiveFormat, str]] = {
    "default": ".mar",
    "zip-store": ".mar",
    "tgz": ".tar.gz",
    "no-archive": "",
}


def pack(
    recipe: Recipe,
    export_path: Path = Path(),
    archive_format: ArchiveFormat = "default",
    *,
    force: bool = False,
    on_progress: OnProgress = lambda done_bytes, total_bytes: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Path:
    """Packs what a recipe names; the path of the archive. The same input gives the same bytes.

    Args:
        recipe: what goes in.
        export_path: the folder to write to; made if it is missing.
        archive_format: zip (deflated or stored), gzipped tar, or plain folder.
        force: replaces an archive that is there.
        on_progress: hears (bytes done, bytes in all) from time to time.
        on_note: hears what is odd but no error.

    Raises:
        ArchiveError: an input is missing or cannot be used, or the target exists.
        OSError: the target cannot be written.
    """
    collection = collect(recipe, on_note)
    target = export_path / (recipe.model_name + _SUFFIXES[archive_format])

    def write(partial: Path) -> None:
        _write(collection, partial, archive_format, on_progress)

    is_folder = archive_format == "no-archive"
    write_whole(target, collection.sources, write, force=force, is_folder=is_folder)
    return target


def write_whole(
    target: Path,
    sources: Iterable[Source],
    write: Callable[[Path], None],
    *,
    force: bool,
    is_folder: bool = False,
) -> None:
    """Has `write` make an archive, which gets its name when it is complete and can be read.

    Args:
        target: the archive; its folder is made if it is missing.
        sources: what is packed.
        write: writes the archive to the path it is given, durably.
        force: replaces an archive that is there.
        is_folder: the archive is a plain folder.

    Raises:
        ArchiveError, OSError: as `pack` does; nothing is left behind.
    """
    _make_export_path(target.parent)
    _check_target(target, force=force, is_folder=is_folder)
    _check_sources(sources, target)
    # the name is ours alone and not guessed by anyone; a pack that was killed leaves it visible
    # as what it is, a hidden partial file
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    try:
        write(partial)
        _check_readable(partial)
        _publish(partial, target, force=force)
    except BaseException:
        _remove(partial)
        raise


def _make_export_path(export_path: Path) -> None:
    try:
        export_path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputInvalid(
            "input-invalid", f"The export path {export_path} is not a folder."
        ) from error


def _check_target(target: Path, *, force: bool, is_folder: bool) -> None:
    if not target.exists():
        return
    if not force:
        raise _exists(target)
    is_replaceable = target.is_file()
    if is_folder:
        # --force means an older archive, never whatever folder happens to have the model's name
        is_replaceable = target.is_dir() and (target / MANIFEST_NAME).is_file()
    if not is_replaceable:
        raise ArchiveExists(
            "exists", f"{target} exists and is no archive, so it is not replaced; move it away."
        )


def _check_sources(sources: Iterable[Source], target: Path) -> None:
    for source in sources:
        path = source.path
        if path.resolve().is_relative_to(target.resolve()):
            raise InputInvalid(
                "input-invalid",
                f"{path} belongs to the archive being written; leave it out of the extra files.",
            )


def _write(
    collection: Collection, partial: Path, archive_format: ArchiveFormat, on_progress: OnProgress
) -> None:
    progress = Progress(sum(source.size_bytes for source in collection.sources), on_progress)
    if archive_format == "no-archive":
        partial.mkdir()
        write_folder(collection, partial, progress)
        return
    with partial.open("xb") as file:
        if archive_format == "tgz":
            write_tgz(collection, file, progress)
        else:
            write_zip(collection, file, progress, is_stored=archive_format == "zip-store")
        file.flush()
        os.fsync(file.fileno())


def _check_readable(partial: Path) -> None:
    try:
        open_archive(partial).close()
    except ArchiveError as error:
        raise InputInvalid(
            "input-invalid", f"These files make an archive that no server would take: {error}"
        ) from error


def _publish(partial: Path, target: Path, *, force: bool) -> None:
    """Gives the finished archive its name. Without `force`, never over something else's."""
    if target.is_dir():
        _swap(partial, target)
    elif force or partial.is_dir():
        partial.replace(target)
    else:
        _link(partial, target)
    sync_folder(target.parent)


def _swap(partial: Path, target: Path) -> None:
    """A folder cannot replace a full one in one step; between the two, the old one is hidden."""
    old = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old")
    target.rename(old)
    try:
        partial.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old)


def _link(partial: Path, target: Path) -> None:
    """Unlike a rename, a link fails if another pack was faster."""
    try:
        os.link(partial, target)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError:  # a file system without hard links: the check from before has to do
        partial.rename(target)
    else:
        partial.unlink()


def _exists(target: Path) -> ArchiveExists:
    return ArchiveExists("exists", f"{target} exists already; add --force to replace it.")


def _remove(partial: Path) -> None:
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        partial.unlink(missing_ok=True)
