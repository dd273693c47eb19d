"""What the planes need to know of a workflow's archive: node by node, and as a whole. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from marserve.errors import MarServeError
from marserve.pipelines.archive import WorkflowArchive
from marserve.pipelines.spec import Node
from marserve.protocols.management import Registration
from marserve.protocols.workflows import WorkflowDescription, WorkflowRegistration


def node_wish(
    model: str, node: Node, wish: WorkflowRegistration, archive: WorkflowArchive
) -> Registration:
    """The registration of the model that serves a node."""
    settings = node.settings
    return Registration(
        url=node.url or archive.url,
        model_name=model,
        handler=f"{archive.handler}:{node.name}" if node.url is None else None,
        batch_size=settings.batch_size,
        max_batch_delay_ms=settings.max_batch_delay_ms,
        initial_workers=settings.max_workers,
        response_timeout_s=wish.response_timeout_s,
        startup_timeout_s=wish.startup_timeout_s,
        s3_sse_kms=wish.s3_sse_kms,
    )


def failures(models: Iterable[str], outcomes: Iterable[BaseException | None]) -> dict[str, str]:
    """Why nodes could not be registered; what is no deliberate error is raised."""
    causes = {}
    for model, outcome in zip(models, outcomes, strict=True):
        if isinstance(outcome, MarServeError):
            causes[model] = outcome.message
        elif outcome is not None:
            raise outcome
    return causes


def description(name: str, archive: WorkflowArchive) -> WorkflowDescription:
    """The workflow as a whole, under this name."""
    defaults = archive.specification.defaults
    return WorkflowDescription(
        name=name,
        url=archive.url,
        min_workers=defaults.min_workers,
        max_workers=defaults.max_workers,
        batch_size=defaults.batch_size,
        max_batch_delay_ms=defaults.max_batch_delay_ms,
        dag=archive.specification.edges,
    )
