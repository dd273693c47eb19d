"""A workflow's archive in the workflow store: found, verified, unpacked, understood. Blocks.

The same store, limits and checks as for archives of models, so a hostile one is refused alike.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from marserve.errors import (
    ArchiveNotFound,
    ArchiveRefused,
    InvalidInput,
    StoreMissing,
    WorkflowInvalid,
    WorkflowNotFound,
)
from marserve.pipelines import spec
from marserve.pipelines.spec import Specification
from marserve.protocols.workflows import NO_STORE, WorkflowRegistration, not_in_store
from marserve.registry.store import ModelStore, Unpacked
from marserve_archiver.errors import ArchiveError
from marserve_archiver.members import DEFAULT_LIMITS
from marserve_archiver.workflow_manifest import (
    WORKFLOW_MANIFEST_NAME,
    WorkflowManifest,
    parse_workflow,
    workflow_problems,
)

_MAX_HANDLER_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class WorkflowArchive:
    """An unpacked workflow and what it says about itself."""

    url: str
    name: str
    """The one that was asked for, or the manifest's."""
    unpacked: Unpacked
    handler: str | None
    specification: Specification


def read_archive(
    store: ModelStore, wish: WorkflowRegistration, *, again: bool = False
) -> WorkflowArchive:
    """The archive that `wish` names; one from elsewhere is fetched into the store first.

    `again`: it was registered by an earlier run of the server.

    Raises:
        WorkflowNotFound: the store has none of this name, or the url may not be used.
        ArchiveRefused: it is broken, hostile or incomplete.
        WorkflowInvalid: its specification cannot be run.
        InvalidInput, DownloadFailed, ArchiveExistsInStore: as for models.
    """
    try:
        path = store.fetch(wish.url, wish.s3_sse_kms, again=again, sha256=wish.sha256)
        unpacked = store.unpack(path, wish.sha256)
    except StoreMissing as error:
        raise WorkflowNotFound(NO_STORE) from error
    except ArchiveNotFound as error:
        is_missing = error.message.startswith("Model not found")
        raise WorkflowNotFound(not_in_store(wish.url) if is_missing else error.message) from error
    manifest = _manifest(wish.url, unpacked.model_dir)
    name = wish.workflow_name or manifest.workflow_name
    if not name:
        raise InvalidInput(
            f"Workflow name is not defined: the manifest of {wish.url} has none; "
            "give one with the parameter workflow_name."
        )
    functions = frozenset[str]() if manifest.handler is None else None
    if manifest.handler is not None:
        path = unpacked.model_dir / manifest.handler
        functions = functions_of(_read(wish.url, path, _MAX_HANDLER_BYTES))
    assert manifest.spec_file is not None, "it was checked"
    text = _read(wish.url, unpacked.model_dir / manifest.spec_file, spec.MAX_BYTES)
    specification = spec.parse(text, functions)
    return WorkflowArchive(wish.url, name, unpacked, manifest.handler, specification)


def functions_of(source: bytes) -> frozenset[str] | None:
    """Every name that Python code may define; None where that cannot be told by reading it."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None  # the worker that imports it tells what is wrong, and where
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            return None  # a class serves every node that is no function
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    is_open = "*" in names or "__getattr__" in names or _writes_globals(tree)
    return None if is_open else frozenset(names)


def _writes_globals(tree: ast.AST) -> bool:
    """Whether names may come about that no statement spells."""
    return any(
        isinstance(node, ast.Name) and node.id in ("globals", "vars", "setattr", "exec")
        for node in ast.walk(tree)
    )


def _manifest(url: str, folder: Path) -> WorkflowManifest:
    path = folder / WORKFLOW_MANIFEST_NAME
    manifest = WorkflowManifest()
    try:
        if path.is_file():
            manifest = parse_workflow(_read(url, path, DEFAULT_LIMITS.max_manifest_bytes))
        names = (manifest.spec_file, manifest.handler)
        present = {name for name in names if name and (folder / name).is_file()}
        for problem in workflow_problems(manifest, present):
            raise problem
    except ArchiveError as error:
        raise ArchiveRefused(f"{url} is refused: {error}") from error
    return manifest


def _read(url: str, path: Path, most_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise ArchiveRefused(f"{path.name} of {url} cannot be read: {error}.") from error
    if len(content) > most_bytes:
        raise WorkflowInvalid(f"{path.name} of {url} is larger than {most_bytes} bytes.")
    return content
