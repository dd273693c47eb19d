"""What the management ports (HTTP and gRPC) need of the control planes: models, workflows."""

from __future__ import annotations

from typing import Protocol

from marserve.model_version import Description
from marserve.protocols.management import Registered, Registration, Scaled
from marserve.protocols.workflows import WorkflowDescription, WorkflowRegistration


class ControlPlane(Protocol):
    """Carries out what is asked of models. All methods run on the event loop."""

    async def register(self, wish: Registration) -> Registered:
        """Register an archive; with `wish.synchronous`, return when its workers are up."""
        ...

    async def scale(
        self,
        name: str,
        version: str | None,
        min_workers: int,
        max_workers: int | None,
        synchronous: bool,
    ) -> Scaled:
        """Want another number of workers; `version` None is the default version."""
        ...

    async def set_default(self, name: str, version: str) -> None:
        """Make `version` the default one."""
        ...

    async def unregister(self, name: str, version: str | None) -> None:
        """Drain and forget a version; None is the default version.

        Raises:
            DeadlineExceeded: what it was doing did not end within unregister_model_timeout.
        """
        ...

    async def describe(
        self, name: str, version: str | None, *, customized: bool = False
    ) -> tuple[Description, ...]:
        """One version; None is the default one, "all" is all of them.

        `customized`: ask the handler as well (of one version only).

        Raises:
            NoWorkers, DeadlineExceeded: the handler was to be asked and could not answer.
        """
        ...

    async def models(self) -> tuple[Description, ...]:
        """The default version of each model, sorted by name."""
        ...

    async def ready(self, name: str) -> bool:
        """Whether the default version can answer."""
        ...


class WorkflowPlane(Protocol):
    """Carries out what is asked of workflows. All methods run on the event loop."""

    async def register_workflow(self, wish: WorkflowRegistration) -> str:
        """Register a workflow and bring up its nodes; the name it has got.

        Raises:
            WorkflowNotFound, WorkflowConflict, WorkflowFailed, WorkflowInvalid: it cannot be.
        """
        ...

    async def workflows(self) -> tuple[WorkflowDescription, ...]:
        """All workflows, sorted by name."""
        ...

    async def describe_workflow(self, name: str) -> WorkflowDescription:
        """One workflow.

        Raises:
            WorkflowNotFound: there is none of this name.
            WorkflowFailed: it could not be opened at the start.
        """
        ...

    async def unregister_workflow(self, name: str) -> None:
        """Forget a workflow and the models of its nodes.

        Raises:
            WorkflowNotFound: there is none of this name.
        """
        ...
