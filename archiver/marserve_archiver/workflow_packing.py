"""Packs a workflow: its specification, its handler and more files become one `.war` archive."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from marserve_archiver.collect import archiver_version, check_name, created_on, gather
from marserve_archiver.errors import InputMissing
from marserve_archiver.packing import write_whole
from marserve_archiver.workflow_manifest import (
    WORKFLOW_MANIFEST_NAME,
    WorkflowManifest,
    dump_workflow,
)
from marserve_archiver.writers import Progress, write_zip_members

SUFFIX: Final = ".war"


@dataclass(frozen=True, slots=True)
class WorkflowRecipe:
    """What goes into a workflow archive, in the words of the command line."""

    workflow_name: str
    spec_file: Path
    handler: Path | None = None
    """A Python file; `.py` may be left out."""
    extra_files: tuple[str, ...] = ()
    """Files, directories and wildcards. A directory stands for its content."""


def pack_workflow(
    recipe: WorkflowRecipe,
    export_path: Path = Path(),
    *,
    force: bool = False,
    on_note: Callable[[str], None] = lambda note: None,
) -> Path:
    """Packs what a recipe names; the path of the archive. The same input gives the same bytes.

    Args:
        recipe: what goes in.
        export_path: the folder to write to; made if it is missing.
        force: replaces an archive that is there.
        on_note: hears what is odd but no error.

    Raises:
        ArchiveError: an input is missing or cannot be used, or the target exists.
        OSError: the target cannot be written.
    """
    check_name("workflow", recipe.workflow_name)
    handler = None if recipe.handler is None else _python_file(recipe.handler)
    named = {"spec file": recipe.spec_file, "handler": handler}
    sources = gather(named, recipe.extra_files, None, WORKFLOW_MANIFEST_NAME, on_note)
    manifest = WorkflowManifest(
        workflow_name=recipe.workflow_name,
        spec_file=recipe.spec_file.name,
        handler=None if handler is None else handler.name,
        created_on=created_on(os.environ.get("SOURCE_DATE_EPOCH")),
        archiver_version=archiver_version(),
    )

    def write(partial: Path) -> None:
        head = (WORKFLOW_MANIFEST_NAME, dump_workflow(manifest))
        progress = Progress(0, lambda done_bytes, total_bytes: None)
        with partial.open("xb") as file:
            write_zip_members(head, sources, file, progress)
            file.flush()
            os.fsync(file.fileno())

    target = export_path / (recipe.workflow_name + SUFFIX)
    write_whole(target, sources, write, force=force)
    return target


def _python_file(path: Path) -> Path:
    for candidate in (path, path.with_name(path.name + ".py")):
        if candidate.is_file() and candidate.suffix == ".py":
            return candidate
    raise InputMissing(
        "input-missing", f"The handler file {path} does not exist; give a .py file of functions."
    )
