"""Everything that is wrong with an archive, not only the first thing.

Reads every byte. What a broken structure hides cannot be checked, so then the list ends early.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from marserve_archiver.archive import (
    Check,
    Container,
    container_problems,
    open_container,
    read_manifest,
)
from marserve_archiver.errors import ArchiveError, ManifestInvalid
from marserve_archiver.manifest import (
    MANIFEST_NAME,
    MODEL_NAME,
    VERSION,
    Manifest,
    file_problems,
)
from marserve_archiver.members import DEFAULT_LIMITS, MIB, Limits, Member

_MAX_SOURCE_BYTES: Final = 16 * MIB


def verify(
    path: Path, limits: Limits = DEFAULT_LIMITS, check: Check | None = None
) -> tuple[ArchiveError, ...]:
    """All problems of an archive, in the order of their weight; none when it is fine.

    `check`: as for `open_archive`; one that it refuses is not looked at further.
    """
    try:
        container, file = open_container(path, limits, check)
    except ArchiveError as error:
        return (error,)
    try:
        problems = list(container_problems(container, file.size_bytes if file else 0, limits))
        # reasons to refuse an archive before inflating it are reasons not to inflate it here
        if any(problem.reason in ("bomb", "too-large") for problem in problems):
            return tuple(problems)
        return (*problems, *_content_problems(container, limits))
    finally:
        container.close()


def _content_problems(container: Container, limits: Limits) -> Iterator[ArchiveError]:
    damaged: set[str] = set()
    for member in container.members:
        problem = _damage(container, member) if container.kind == "zip" else None
        if problem is not None:
            damaged.add(member.name)
            yield problem
    try:
        manifest = read_manifest(container, limits)
    except ArchiveError as error:
        if MANIFEST_NAME not in damaged:
            yield error
        return
    files = {member.name: member for member in container.members if not member.is_directory}
    yield from _name_problems(manifest)
    yield from file_problems(manifest, files)
    sources = dict.fromkeys(filter(None, (manifest.handler_file(), manifest.model_file)))
    for name in sources:
        if name in files and name not in damaged:
            yield from _python_problems(container, files[name])


def _damage(container: Container, member: Member) -> ArchiveError | None:
    try:
        for _ in container.pieces(member):
            pass
    except ArchiveError as error:
        return error
    return None


def _name_problems(manifest: Manifest) -> Iterator[ArchiveError]:
    if manifest.model_name is not None and not MODEL_NAME.fullmatch(manifest.model_name):
        yield ManifestInvalid(
            "bad-manifest", f"The manifest's modelName {manifest.model_name!r} is not a legal name."
        )
    if not VERSION.fullmatch(manifest.model_version):
        yield ManifestInvalid(
            "bad-manifest",
            f"The manifest's modelVersion {manifest.model_version!r} is not a legal version.",
        )


def _python_problems(container: Container, member: Member) -> Iterator[ArchiveError]:
    if member.size_bytes > _MAX_SOURCE_BYTES:
        yield ManifestInvalid("bad-python", f"{member.name} is too large to be Python code.")
        return
    source = b"".join(container.pieces(member))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the author's invalid escapes are not our concern
            ast.parse(source, member.name)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        yield ManifestInvalid("bad-python", f"{member.name}{line}: {error.msg}.")
    except (ValueError, RecursionError, MemoryError) as error:
        yield ManifestInvalid("bad-python", f"{member.name} is no Python code: {error}.")
