"""What a workflow archive (`.war`) says about itself, in `WAR-INF/MANIFEST.json`.

Pure: bytes in, frozen value out, and back. The keys are TorchServe's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from marserve_archiver.errors import ArchiveError, ManifestInvalid
from marserve_archiver.manifest import check_size, json_object, sub_object, text_of
from marserve_archiver.members import DEFAULT_LIMITS, Limits, name_problem

WORKFLOW_MANIFEST_NAME: Final = "WAR-INF/MANIFEST.json"


@dataclass(frozen=True, slots=True)
class WorkflowManifest:
    """The name of a workflow and of its two files. Without arguments: a missing manifest."""

    workflow_name: str | None = None
    spec_file: str | None = None
    """The YAML file with models and graph."""
    handler: str | None = None
    """The Python file with the functions of the graph; None: all nodes are models."""
    created_on: str | None = None
    archiver_version: str | None = None


def parse_workflow(content: bytes, limits: Limits = DEFAULT_LIMITS) -> WorkflowManifest:
    """Reads a manifest.

    Raises:
        ManifestInvalid: no JSON object, a value of the wrong type, too large.
    """
    check_size(len(content), limits)
    document = json_object(content)
    workflow = sub_object(document, "workflow")
    return WorkflowManifest(
        workflow_name=text_of(workflow, "workflowName"),
        spec_file=text_of(workflow, "specFile"),
        handler=text_of(workflow, "handler"),
        created_on=text_of(document, "createdOn"),
        archiver_version=text_of(document, "archiverVersion"),
    )


def dump_workflow(manifest: WorkflowManifest) -> bytes:
    """The bytes of `WAR-INF/MANIFEST.json`, indented by two."""
    top = {"createdOn": manifest.created_on, "archiverVersion": manifest.archiver_version}
    workflow = {
        "workflowName": manifest.workflow_name,
        "specFile": manifest.spec_file,
        "handler": manifest.handler,
    }
    document: dict[str, object] = {key: value for key, value in top.items() if value is not None}
    document["workflow"] = {key: value for key, value in workflow.items() if value is not None}
    return (json.dumps(document, indent=2) + "\n").encode()


def workflow_problems(
    manifest: WorkflowManifest, present: Collection[str]
) -> Iterator[ArchiveError]:
    """Why an archive that holds the files `present` cannot be used with this manifest."""
    if manifest.spec_file is None:
        yield ManifestInvalid(
            "bad-manifest", f"{WORKFLOW_MANIFEST_NAME} names no specFile, or there is no such file."
        )
    for key, name in (("specFile", manifest.spec_file), ("handler", manifest.handler)):
        if name is None:
            continue
        problem = name_problem(name)
        if problem is not None:
            yield ManifestInvalid("bad-manifest", f"The manifest's {key} is refused: {problem}")
        elif name not in present:
            yield ManifestInvalid(
                "missing-file", f"The manifest names {key} {name!r}, which is not in the archive."
            )
