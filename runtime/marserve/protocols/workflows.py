"""The management API's words for workflows: parameters -> wishes, outcomes -> JSON. Pure.

What a workflow is and how its requests travel is for whoever serves workflows to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marserve.errors import InvalidInput
from marserve.protocols.management import Page
from marserve.protocols.parameters import Parameters, digest, flag, integer, text


@dataclass(frozen=True, slots=True)
class WorkflowRegistration:
    """A wish to register a workflow archive. None: not given, so archive and defaults decide."""

    url: str
    workflow_name: str | None = None
    response_timeout_s: int | None = None
    startup_timeout_s: int | None = None
    s3_sse_kms: bool = False
    sha256: str | None = None
    """The digest that the archive must have, in lower-case hex."""


@dataclass(frozen=True, slots=True)
class WorkflowDescription:
    """One workflow: the defaults of its nodes, and which node feeds which."""

    name: str
    url: str
    min_workers: int
    max_workers: int
    batch_size: int
    max_batch_delay_ms: int
    dag: Mapping[str, Sequence[str]]
    """The successors of each node that has some, in the order of the specification."""


def registration(given: Parameters) -> WorkflowRegistration:
    """The registration that `given` asks for.

    Raises:
        InvalidInput: `url` is missing, or a parameter is malformed or out of range.
    """
    url = text(given, "url")
    if url is None:
        raise InvalidInput("Parameter url is required.")
    return WorkflowRegistration(
        url=url,
        workflow_name=text(given, "workflow_name"),
        response_timeout_s=integer(given, "response_timeout", at_least=1),
        startup_timeout_s=integer(given, "startup_timeout", at_least=1),
        s3_sse_kms=flag(given, "s3_sse_kms", default=False),
        sha256=digest(given, "sha256"),
    )


def registered_answer(name: str) -> tuple[int, dict[str, Any]]:
    """All nodes of the workflow serve."""
    return 200, {"status": f"Workflow {name} has been registered and scaled successfully."}


def unregistered_answer(name: str) -> tuple[int, dict[str, Any]]:
    """The workflow and its nodes are gone."""
    return 200, {"status": f'Workflow "{name}" unregistered'}


def list_answer(workflows: Sequence[WorkflowDescription], page: Page) -> tuple[int, dict[str, Any]]:
    """One page of the workflows; `nextPageToken` as in the list of models."""
    end = page.start + page.limit
    rows = [
        {"workflowName": one.name, "workflowUrl": one.url} for one in workflows[page.start : end]
    ]
    if end <= len(workflows):
        return 200, {"nextPageToken": str(end), "workflows": rows}
    return 200, {"workflows": rows}


def describe_answer(workflow: WorkflowDescription) -> tuple[int, list[dict[str, Any]]]:
    """All that is known of one workflow."""
    return 200, [
        {
            "workflowName": workflow.name,
            "workflowUrl": workflow.url,
            "minWorkers": workflow.min_workers,
            "maxWorkers": workflow.max_workers,
            "batchSize": workflow.batch_size,
            "maxBatchDelay": workflow.max_batch_delay_ms,
            "workflowDag": _dag(workflow.dag),
        }
    ]


# --- refusals: the messages of WorkflowNotFound, WorkflowConflict and WorkflowFailed ---


def not_registered(name: str) -> str:
    """No workflow of this name is registered."""
    return f"Workflow not found: {name}"


def not_in_store(url: str) -> str:
    """The workflow store has no such archive."""
    return f"Workflow not found in workflow store: {url}"


NO_STORE = "Workflow store has not been configured."


def already_registered(name: str) -> str:
    """A workflow of this name is registered."""
    return f"Workflow {name} is already registered."


def not_started(name: str, failures: Mapping[str, str]) -> str:
    """Nodes of the workflow did not come up; `failures`: cause by name of the node's model."""
    causes = (
        f"Workflow Node {node} failed to register. Details: {cause}"
        for node, cause in failures.items()
    )
    return f"Workflow {name} has failed to register. Failures: [{', '.join(causes)}]"


def _dag(edges: Mapping[str, Sequence[str]]) -> str:
    """`{pre=[a, b], a=[post]}`: the text that TorchServe's clients know."""
    return "{" + ", ".join(f"{node}=[{', '.join(then)}]" for node, then in edges.items()) + "}"
