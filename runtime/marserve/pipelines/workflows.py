"""The workflows of the server: registers them with their nodes, and runs requests through them.

Sole owner of which workflows there are, in memory and in a file of its own for the next start.
Their nodes are models, which management owns; they are registered anew at each start, so no crash
leaves some of them behind. Every method runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from marserve.change_gate import ChangeGate
from marserve.errors import (
    MarServeError,
    ShuttingDown,
    StateNotSaved,
    WorkflowConflict,
    WorkflowFailed,
    WorkflowNotFound,
)
from marserve.pipelines import nodes
from marserve.pipelines.archive import WorkflowArchive, read_archive
from marserve.pipelines.run import Infer, Plan, Run
from marserve.pipelines.spec import Node
from marserve.pipelines.wanted_workflows import (
    FILE_NAME,
    WantedWorkflows,
    dump,
    load,
)
from marserve.protocols.management import Registered, Registration
from marserve.protocols.workflows import (
    WorkflowDescription,
    WorkflowRegistration,
    already_registered,
    not_registered,
    not_started,
)
from marserve.refs import checked_ref
from marserve.registry import wanted
from marserve.registry.durable_file import DurableFile
from marserve.registry.store import ModelStore, Unpacked
from marserve.request import Reply, Request

_log = logging.getLogger("marserve.workflows")


class Plane(Protocol):
    """Registers models that are nodes (`Management`)."""

    async def register_node(
        self, wish: Registration, node: wanted.Node, archive: Unpacked | None
    ) -> Registered:
        """Register one; `archive`: the workflow's, for a function."""
        ...

    async def unregister_nodes(self, workflow: str) -> None:
        """Take all nodes of a workflow out of service."""
        ...


@dataclass(slots=True)
class _Workflow:
    """One that serves."""

    description: WorkflowDescription
    plan: Plan
    runs: set[Run] = field(default_factory=set)
    emptied: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a run was the last one for the time being."""


class Workflows:
    """All workflows."""

    def __init__(
        self,
        plane: Plane,
        infer: Infer,
        store: ModelStore,
        directory: Path | None,
        drain_s: float,
        keeps: bool = True,
        gate: ChangeGate | None = None,
    ) -> None:
        """What it works with.

        Args:
            plane: owns the models.
            infer: gives a request to a model.
            store: holds the archives of workflows.
            directory: of the file for the next start; None: nothing is kept.
            drain_s: how long requests of an unregistered workflow may take to finish.
            keeps: whether what the last run wanted is wanted again.
            gate: says whether changes are taken.
        """
        self._gate = gate or ChangeGate()
        self._plane = plane
        self._infer = infer
        self._store = store
        self._file = None if directory is None else DurableFile(directory, FILE_NAME)
        self._drain_s = drain_s
        self._keeps = keeps
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._wanted: WantedWorkflows = {}
        self._open: dict[str, _Workflow] = {}
        self._broken: dict[str, str] = {}
        """Wanted workflows that could not be opened at the start, and why."""
        self._busy: set[str] = set()
        """Names that are being registered or unregistered."""

    # --- start ------------------------------------------------------------------------------------

    async def start(self) -> tuple[str, ...]:
        """Open what the last run wanted; workers are still loading when this returns.

        Returns one sentence for each workflow that cannot be opened; it stays wanted.
        """
        if self._file is None or not self._keeps:
            return ()
        self._wanted = await asyncio.to_thread(self._restored, self._file)
        for name, wish in self._wanted.items():
            _log.info("restoring the workflow %s", name)
            try:
                archive = await asyncio.to_thread(read_archive, self._store, wish, again=True)
                await self._bring_up(name, wish, archive, synchronous=False)
            except MarServeError as error:
                self._broken[name] = error.message
        return tuple(
            f"The workflow {name} cannot be restored: {cause}"
            for name, cause in self._broken.items()
        )

    # --- changes ----------------------------------------------------------------------------------

    async def register_workflow(self, wish: WorkflowRegistration) -> str:
        """Register a workflow; returns its name when all its nodes serve.

        Raises:
            WorkflowFailed: a node could not be registered; none is left.
            WorkflowNotFound, WorkflowConflict, WorkflowInvalid, MarServeError: it cannot be.
        """
        with self._gate.passed():
            return await self._register_workflow(wish)

    async def _register_workflow(self, wish: WorkflowRegistration) -> str:
        try:
            archive = await asyncio.to_thread(read_archive, self._store, wish)
            name = archive.name
            checked_ref(name, "1")
            if name in self._open or name in self._busy:
                raise WorkflowConflict(already_registered(name))
            self._busy.add(name)
            try:
                await self._register(name, wish, archive)
            finally:
                self._busy.discard(name)
        except BaseException:
            await self._forget_archive(wish.url)
            raise
        return name

    async def unregister_workflow(self, name: str) -> None:
        """Forget a workflow; its accepted requests finish, then its nodes go.

        Raises:
            WorkflowNotFound: there is none of this name.
        """
        if name not in self._wanted or name in self._busy:
            raise WorkflowNotFound(not_registered(name))
        with self._gate.passed():
            await self._unregister_workflow(name)

    async def _unregister_workflow(self, name: str) -> None:
        url = self._wanted[name].url
        self._busy.add(name)
        try:
            await self._commit(name, None)
            self._broken.pop(name, None)
            workflow = self._open.pop(name, None)
            if workflow is not None:
                await self._drain(name, workflow)
            await self._plane.unregister_nodes(name)
        finally:
            self._busy.discard(name)
        await self._forget_archive(url)

    # --- questions --------------------------------------------------------------------------------

    async def workflows(self) -> tuple[WorkflowDescription, ...]:
        """All workflows, sorted by name."""
        return tuple(self._describe(name) for name in sorted(self._wanted))

    async def describe_workflow(self, name: str) -> WorkflowDescription:
        """One workflow.

        Raises:
            WorkflowNotFound: there is none of this name.
            WorkflowFailed: it could not be opened at the start.
        """
        if name not in self._wanted:
            raise WorkflowNotFound(not_registered(name))
        self._refuse_broken(name)
        return self._describe(name)

    # --- requests ---------------------------------------------------------------------------------

    def predict(
        self, name: str, request: Request, reply_to: Callable[[Reply], None]
    ) -> Callable[[], None]:
        """Run a request through a workflow; `reply_to` is called once with the outcome.

        Returns what to call when nobody waits for the outcome any more.

        Raises:
            WorkflowNotFound: there is none of this name.
            WorkflowFailed: it could not be opened at the start.
        """
        workflow = self._open.get(name)
        if workflow is None:
            self._refuse_broken(name)
            raise WorkflowNotFound(not_registered(name))

        def on_end(run: Run, reply: Reply) -> None:
            _leave(workflow, run)
            reply_to(reply)

        def abandon() -> None:
            run.abandon()
            _leave(workflow, run)

        run = Run(workflow.plan, request, self._infer, self._loop.call_later, on_end)
        workflow.runs.add(run)
        run.start()
        return abandon

    # --- inside -----------------------------------------------------------------------------------

    async def _register(
        self, name: str, wish: WorkflowRegistration, archive: WorkflowArchive
    ) -> None:
        await self._bring_up(name, wish, archive, synchronous=True)
        try:
            # the next start is to open this archive, and no other that took its place
            settled = replace(wish, workflow_name=name, sha256=archive.unpacked.sha256)
            await self._commit(name, settled)
        except BaseException:
            del self._open[name]
            await self._plane.unregister_nodes(name)
            raise
        self._broken.pop(name, None)

    async def _bring_up(
        self, name: str, wish: WorkflowRegistration, archive: WorkflowArchive, synchronous: bool
    ) -> None:
        """Register all nodes and let requests in, or leave nothing."""
        specification = archive.specification
        models = {node: f"{name}__{node}" for node in specification.nodes}
        for model in models.values():
            checked_ref(model, "1")

        async def register(node: Node) -> None:
            role = wanted.Node(name, is_function=node.url is None)
            unpacked = archive.unpacked if node.url is None else None
            node_wish = nodes.node_wish(models[node.name], node, wish, archive)
            await self._plane.register_node(
                replace(node_wish, synchronous=synchronous), role, unpacked
            )

        wishes = map(register, specification.nodes.values())
        try:
            outcomes = await asyncio.gather(*wishes, return_exceptions=True)
            failures = nodes.failures(models.values(), outcomes)
            if failures:
                raise WorkflowFailed(not_started(name, failures))
        except BaseException:
            await self._plane.unregister_nodes(name)
            raise
        self._open[name] = _Workflow(nodes.description(name, archive), Plan(specification, models))

    async def _commit(self, name: str, wish: WorkflowRegistration | None) -> None:
        """Want a workflow, or (None) no longer, durably."""
        async with self._turn:
            changed = {other: one for other, one in self._wanted.items() if other != name}
            if wish is not None:
                changed[name] = wish
            if self._file is not None:
                try:
                    await asyncio.to_thread(self._file.write, dump(changed))
                except OSError as error:
                    raise StateNotSaved(
                        f"The change was not made, because it could not be saved: {error}."
                    ) from error
            self._wanted = changed

    async def _drain(self, name: str, workflow: _Workflow) -> None:
        workflow.emptied.clear()
        if workflow.runs:
            try:
                await asyncio.wait_for(workflow.emptied.wait(), self._drain_s)
            except TimeoutError:
                error = ShuttingDown(f'Workflow "{name}" is being unloaded.')
                for run in list(workflow.runs):
                    run.fail(error)

    async def _forget_archive(self, url: str) -> None:
        """Remove an archive that was fetched for a registration that is over."""
        in_use = [wish.url for wish in self._wanted.values()]
        await asyncio.to_thread(self._store.forget, url, in_use)

    @staticmethod
    def _restored(file: DurableFile) -> WantedWorkflows:
        return file.read(load) or {}

    def _describe(self, name: str) -> WorkflowDescription:
        workflow = self._open.get(name)
        if workflow is not None:
            return workflow.description
        return WorkflowDescription(name, self._wanted[name].url, 0, 0, 0, 0, {})

    def _refuse_broken(self, name: str) -> None:
        cause = self._broken.get(name)
        if cause is not None:
            raise WorkflowFailed(
                f"Workflow {name} could not be restored when the server started: {cause} "
                "Register it again, or unregister it."
            )


def _leave(workflow: _Workflow, run: Run) -> None:
    workflow.runs.discard(run)
    if not workflow.runs:
        workflow.emptied.set()
