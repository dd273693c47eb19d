"""The control plane: what operators and configuration ask for, carried out.

Every method runs on the event loop. A change is durable before it takes effect, and a method that
returns has made it so. Changes take turns; loading, draining and disk work happen in between
without holding anybody up.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from dataclasses import replace

import psutil

from marserve import startup
from marserve.change_gate import ChangeGate
from marserve.config import Config
from marserve.deployment import KILL_GRACE_S, Deployment
from marserve.directory import Directory
from marserve.errors import (
    InvalidInput,
    LoadFailed,
    MarServeError,
    NoWorkers,
    ShuttingDown,
    VersionConflict,
)
from marserve.events import Bus, VersionGone
from marserve.model_version import Description
from marserve.opening import Found, Opener
from marserve.protocols.management import Registered, Registration, Scaled
from marserve.refs import ModelRef
from marserve.registry.model_config import ModelConfig
from marserve.registry.registry import Registry
from marserve.registry.store import ModelStore, Unpacked
from marserve.registry.wanted import Node, Wanted, WantedVersion
from marserve.request import Job, Reply, Request
from marserve.versions import Versions

_log = logging.getLogger("marserve.management")
ALL_VERSIONS = "all"
_STOP_S = 0.5
"""How long they have in any case: those without work end by themselves."""


class Management:
    """Carries out changes; `versions.py` keeps what is open in step with what is wanted."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        store: ModelStore,
        opener: Opener,
        directory: Directory,
        bus: Bus,
        gate: ChangeGate | None = None,
    ) -> None:
        self._gate = gate or ChangeGate()
        self._config = config
        self._store = store
        self._opener = opener
        self._directory = directory
        self._bus = bus
        self._versions = Versions(config, registry, store, opener, directory, bus)
        self._fetching = asyncio.Lock()
        self._trials: set[Deployment] = set()
        """Deployments of registrations that are not decided yet."""
        self._is_closing = False

    # --- start and stop ---------------------------------------------------------------------------

    async def start(self) -> tuple[str, ...]:
        """Open what the last run wanted, then what the configuration names.

        Workers are still loading when this returns (`settled` waits for them). Returns one sentence
        for each model that cannot be opened; the server goes on without it.
        """
        problems: list[str] = []
        if self._config.snapshot_is_last_run:
            _log.info("TorchServe was the last to run here: its snapshot says what is opened")
        else:
            problems += await self._versions.restore()
        for entry in startup.entries(self._config, self._store.all_archives()):
            _log.info("loading %s", entry.url)
            try:
                await self._versions.open_at_startup(entry)
            except MarServeError as error:
                problems.append(f"{entry.url} could not be registered: {error.message}")
        await self._versions.record("startup")
        return tuple(problems)

    async def settled(self) -> tuple[str, ...]:
        """Wait until every open version serves as wanted, or has shown that it cannot.

        Returns one sentence for each that cannot; the server goes on trying.
        """
        outcomes = await asyncio.gather(*(self._outcome(one) for one in list(self._directory)))
        return tuple(outcome for outcome in outcomes if outcome is not None)

    async def interrupt(self) -> None:
        """Take no more changes; registrations that still wait for their workers are refused."""
        self._is_closing = True
        await asyncio.gather(*(trial.close(0.0) for trial in list(self._trials)))

    async def close(self, grace_s: float, *, records: bool = True) -> None:
        """Let every deployment finish what it has, and end it. What is wanted stays wanted.

        `records`: the snapshot for the next start is this server's to write.
        """
        self._is_closing = True
        kill_grace_s = max(_STOP_S, min(KILL_GRACE_S, grace_s))
        await asyncio.gather(
            *(deployment.close(grace_s, kill_grace_s) for deployment in list(self._directory))
        )
        if records:
            await self._versions.record("shutdown")

    # --- changes ----------------------------------------------------------------------------------

    async def register(self, wish: Registration) -> Registered:
        """Register an archive; if synchronous, wait until its workers serve.

        Raises:
            LoadFailed: a worker could not load it; nothing has changed then.
            MarServeError: the archive, the names or the state of things do not allow it.
        """
        self._refuse_when_closing()
        with self._gate.passed():
            found = await self._opener.find(wish.url, wish.s3_sse_kms, sha256=wish.sha256)
            try:
                return await self._register(wish, found)
            except BaseException:
                await self._versions.forget_archive(wish.url)
                raise

    async def register_node(
        self, wish: Registration, node: Node, archive: Unpacked | None
    ) -> Registered:
        """Register a node of a workflow: a model that lives until `unregister_nodes`.

        It is not kept for the next start; the workflow registers it again then.

        Args:
            wish: what is to be registered.
            node: whose node it is.
            archive: of the workflow, for a function; None: `wish.url` says where the model is.

        Raises:
            MarServeError: as `register` does.
        """
        self._refuse_when_closing()
        if archive is not None:
            return await self._register(wish, Found(wish.url, archive, ModelConfig()), node)
        try:
            async with self._fetching:  # nodes may share an archive that is fetched only once
                found = await self._opener.find(wish.url, wish.s3_sse_kms, again=True)
            return await self._register(wish, found, node)
        except BaseException:
            await self._versions.forget_archive(wish.url)
            raise

    async def unregister_nodes(self, workflow: str) -> None:
        """Take all nodes of a workflow out of service; their accepted requests finish."""
        before = self._versions.wanted
        await self._versions.commit(lambda wanted: wanted.without_nodes(workflow))
        wanted = self._versions.wanted
        for ref in before.nodes(workflow):
            if ref.name in wanted.models:
                self._directory.set_default(ModelRef(ref.name, wanted.models[ref.name].default))
        await self._versions.converge()
        for url in {before[ref].url for ref in before.nodes(workflow)}:
            await self._versions.forget_archive(url)

    async def _register(
        self, wish: Registration, found: Found, node: Node | None = None
    ) -> Registered:
        ref, settings = self._opener.decide(found, wish, at_startup=False)
        _check_count(settings.max_workers)
        if ref in self._versions:
            raise VersionConflict(ref.name, ref.version)
        self._versions.reserve(ref)
        deployment: Deployment | None = None
        try:
            deployment = await self._opener.deploy(found, ref, settings, at_startup=False)
            deployment.scale(settings.min_workers, settings.max_workers)
            try:
                self._trials.add(deployment)
                if wish.synchronous:
                    await deployment.settled()
                self._refuse_when_closing()
                await self._versions.commit(
                    lambda wanted: wanted.add(
                        ref, WantedVersion(wish.url, settings, node, found.unpacked.sha256)
                    )
                )
            except BaseException as error:
                await deployment.close(0.0)
                self._bus.publish(VersionGone(ref))
                if isinstance(error, LoadFailed):
                    raise _failed_to_start(ref, error) from error
                raise
            self._versions.show(deployment)
        finally:
            self._versions.release(ref)
            if deployment is not None:
                self._trials.discard(deployment)
        done = wish.synchronous or settings.min_workers == 0
        return Registered(ref, settings.min_workers, done)

    async def scale(
        self,
        name: str,
        version: str | None,
        min_workers: int,
        max_workers: int | None,
        synchronous: bool,
    ) -> Scaled:
        """Have between `min_workers` and `max_workers` workers (None: exactly `min_workers`).

        Raises:
            ModelNotFound, VersionNotFound: there is no such version.
            LoadFailed: synchronous, and a worker could not load; the server goes on trying.
        """
        self._refuse_when_closing()
        ref = self._versions.wanted.resolve(name, version)
        most = min_workers if max_workers is None else max_workers
        _check_count(most)

        def change(wanted: Wanted) -> Wanted:
            settings = wanted[wanted.resolve(ref.name, ref.version)].settings
            return wanted.resettle(
                ref, replace(settings, min_workers=min_workers, max_workers=most)
            )

        with self._gate.passed():
            await self._versions.commit(change)
            why_not = await self._versions.try_again(ref)  # the archive may have been put back
        deployment = self._directory.get(ref)
        if deployment is None:
            raise NoWorkers(ref.name, version, why_not)
        deployment.scale(min_workers, most)
        if synchronous:
            try:
                await deployment.settled()
            except LoadFailed as error:
                raise _failed_to_start(ref, error) from error
        return Scaled(ref, min_workers, synchronous, version is not None)

    async def set_default(self, name: str, version: str) -> None:
        """Let the bare name mean this version.

        Raises:
            ModelNotFound, VersionNotFound: there is no such version.
        """
        self._refuse_when_closing()
        ref = self._versions.wanted.resolve(name, version)
        with self._gate.passed():
            await self._versions.commit(
                lambda wanted: wanted.make_default(wanted.resolve(name, version))
            )
            self._directory.set_default(ref)

    async def unregister(self, name: str, version: str | None) -> None:
        """Take a version (None: the default one) out of service; its accepted requests finish.

        Raises:
            ModelNotFound, VersionNotFound: there is no such version.
            DefaultVersionInUse: it is the default one, and there are others.
        """
        self._refuse_when_closing()
        url = ""

        def change(wanted: Wanted) -> Wanted:
            # resolved when its turn comes: the change before may have made another the default
            nonlocal url
            ref = wanted.resolve(name, version)
            url = wanted[ref].url
            return wanted.remove(ref)

        with self._gate.passed():
            await self._versions.commit(change)
            await self._versions.converge()
            await self._versions.forget_archive(url)

    # --- questions --------------------------------------------------------------------------------

    async def describe(
        self, name: str, version: str | None, *, customized: bool = False
    ) -> tuple[Description, ...]:
        """One version (None: the default), or with "all" every version of the name.

        `customized`: ask the handler of the one version as well.

        Raises:
            ModelNotFound, VersionNotFound: there is no such version.
            NoWorkers: there is no worker whose handler could be asked.
            MarServeError: the handler was asked and failed.
        """
        wanted = self._versions.wanted
        if version == ALL_VERSIONS:
            refs = [ModelRef(name, v) for v in wanted.model(name).versions]
            return tuple(self._versions.describe(ref) for ref in refs)
        ref = wanted.resolve(name, version)
        description = self._versions.describe(ref)
        if customized:
            description = replace(description, customized=await self._ask_handler(ref))
        return (description,)

    async def _ask_handler(self, ref: ModelRef) -> bytes:
        """What the handler says of itself."""
        deployment = self._directory.get(ref)
        if deployment is None:
            raise NoWorkers(ref.name, None, purpose="describe")
        replied: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def reply_to(_: Job, reply: Reply) -> None:
            if not replied.done():
                replied.set_result(reply)

        request = Request(str(uuid.uuid4()), [], [], describe=True)
        job = Job(request, time.monotonic(), reply_to)
        deployment.describe_itself(job)
        try:
            reply = await replied
        finally:
            job.abandon()
        if isinstance(reply, MarServeError):
            raise reply
        return reply.body

    async def models(self) -> tuple[Description, ...]:
        """The default version of every model, sorted by name; no functions of workflows."""
        wanted = self._versions.wanted
        refs = [wanted.resolve(name, None) for name in sorted(wanted.models)]
        nodes = {ref: wanted[ref].node for ref in refs}
        return tuple(
            self._versions.describe(ref)
            for ref, node in nodes.items()
            if node is None or not node.is_function
        )

    async def ready(self, name: str) -> bool:
        """Whether a request for the bare name would be served now.

        Raises:
            ModelNotFound: there is no such model.
        """
        deployment = self._directory.get(self._versions.wanted.resolve(name, None))
        return deployment is not None and deployment.ready_workers > 0

    # --- inside -----------------------------------------------------------------------------------

    async def _outcome(self, deployment: Deployment) -> str | None:
        try:
            await deployment.settled()
        except LoadFailed as error:
            return f"{deployment.ref} could not be loaded: {error.message}"
        return None

    def _refuse_when_closing(self) -> None:
        if self._is_closing:
            raise ShuttingDown("The server is being stopped.")


def _check_count(workers: int) -> None:
    """A slip of the keyboard must not fill the machine with processes."""
    limit = max(64, 8 * (psutil.cpu_count() or 1))
    if workers > limit:
        raise InvalidInput(
            f"{workers} workers are more than this machine is given; at most {limit} "
            "per model version are started."
        )


def _failed_to_start(ref: ModelRef, error: LoadFailed) -> LoadFailed:
    failed = LoadFailed(
        f"Failed to start workers for model {ref.name} version: {ref.version}: {error.message}"
    )
    failed.out_of_memory = error.out_of_memory
    return failed
