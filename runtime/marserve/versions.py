"""Keeps the open versions in step with the wanted ones, and forgets what nobody wants any more.

Owns the registry, so that every change of it goes through here, in turn, and the versions that are
being opened or cannot be. Every method runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from marserve.config import Config
from marserve.deployment import Deployment
from marserve.directory import Directory
from marserve.errors import ArchiveRefused, MarServeError
from marserve.events import Bus, VersionGone
from marserve.model_version import Description, VersionState
from marserve.opening import Found, Opener
from marserve.protocols.management import Registration
from marserve.refs import ModelRef
from marserve.registry.policy import Load, Unload, next_action
from marserve.registry.registry import Registry
from marserve.registry.snapshot_folder import Kind
from marserve.registry.store import OTHER_DIGEST, ModelStore
from marserve.registry.wanted import Wanted, WantedVersion
from marserve.startup import Entry

_log = logging.getLogger("marserve.management")


class Versions:
    """All versions of all models, wanted or open."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        store: ModelStore,
        opener: Opener,
        directory: Directory,
        bus: Bus,
    ) -> None:
        self._config = config
        self._registry = registry
        self._store = store
        self._opener = opener
        self._directory = directory
        self._bus = bus
        self._turn = asyncio.Lock()
        self._opening: set[ModelRef] = set()
        self._broken: dict[ModelRef, str] = {}
        """Wanted versions whose archive cannot be opened, and why."""

    @property
    def wanted(self) -> Wanted:
        """What is wanted now."""
        return self._registry.wanted

    def __contains__(self, ref: ModelRef) -> bool:
        """Whether it is wanted, or about to be."""
        return ref in self._registry.wanted or ref in self._opening

    def reserve(self, ref: ModelRef) -> None:
        """Nobody else may open this version until `release`."""
        self._opening.add(ref)

    def release(self, ref: ModelRef) -> None:
        """The version is decided: open, or not wanted."""
        self._opening.discard(ref)

    async def restore(self) -> tuple[str, ...]:
        """Open what the last run wanted. One sentence for each version that cannot be opened."""
        self._registry.wanted = self._registry.restore()
        restored = list(self.wanted.refs())
        if restored:
            _log.info("restoring %d model version(s) of the last run", len(restored))
        await self.converge()
        return tuple(f"{ref} cannot be restored: {why}" for ref, why in self._broken.items())

    async def record(self, kind: Kind) -> None:
        """Write the state in TorchServe's form, too."""
        await asyncio.to_thread(self._registry.record, kind)

    async def open_at_startup(self, entry: Entry) -> None:
        """Open an archive that the configuration names.

        Raises:
            MarServeError: it cannot be opened.
        """
        wish = Registration(url=entry.url, model_name=entry.name)
        found = await self._opener.find(entry.url, again=True, sha256=entry.sha256)
        ref, settings = self._opener.decide(found, wish, at_startup=True)
        settings = entry.settled(settings)
        if entry.stored is not None and entry.stored.version != ref.version:
            raise ArchiveRefused(
                f"The snapshot has version {entry.stored.version}, the archive {ref.version}."
            )
        if ref in self._registry.wanted:
            if self._registry.wanted[ref].settings != settings:
                _log.warning(
                    "%s keeps the settings it had in the last run, not those of the configuration; "
                    "unregister it, or start with --ncs, to begin anew",
                    ref,
                )
            return
        deployment = await self._opener.deploy(
            found, ref, settings, at_startup=entry.stored is None
        )
        version = WantedVersion(entry.url, settings, sha256=found.unpacked.sha256)
        overrides = self._config.models.get(ref.name, {}).get(ref.version)
        is_default = entry.stored.is_default if entry.stored else False
        try:
            await self.commit(lambda wanted: wanted.add(ref, version))
            if is_default or (overrides is not None and overrides.default_version):
                await self.commit(lambda wanted: wanted.make_default(ref))
        except BaseException:
            await deployment.close(0.0)
            self._bus.publish(VersionGone(ref))
            raise
        deployment.scale(settings.min_workers, settings.max_workers)
        self.show(deployment)

    async def commit(self, change: Callable[[Wanted], Wanted]) -> None:
        """Apply `change` to the wanted state as it is when its turn comes, durably."""
        async with self._turn:
            await asyncio.to_thread(self._registry.commit, change(self._registry.wanted))

    async def converge(self) -> None:
        """Take steps until what is is what is wanted."""
        while True:
            opened = self._directory.refs() | self._broken.keys()
            match next_action(self._registry.wanted, opened, self._opening):
                case Load(ref):
                    await self._load(ref)
                case Unload(ref):
                    await self._unload(ref)
                case None:
                    return

    async def try_again(self, ref: ModelRef) -> str | None:
        """Open a version that could not be opened; why it still cannot be."""
        if self._broken.pop(ref, None):
            await self.converge()
        return self._broken.get(ref)

    async def _load(self, ref: ModelRef) -> None:
        wanted = self._registry.wanted[ref]
        self._opening.add(ref)
        try:
            found = await self._found_again(ref, wanted)
            held = found.unpacked.manifest.model_version
            if held != ref.version:
                raise ArchiveRefused(f"The archive {wanted.url} holds version {held} now.")
            deployment = await self._opener.deploy(found, ref, wanted.settings, at_startup=False)
            deployment.scale(wanted.settings.min_workers, wanted.settings.max_workers)
            self.show(deployment)
        except MarServeError as error:
            self._broken[ref] = error.message
            is_default = self._registry.wanted.models[ref.name].default == ref.version
            self._directory.mark_broken(ref, error.message, is_default)
        finally:
            self._opening.discard(ref)

    async def _found_again(self, ref: ModelRef, wanted: WantedVersion) -> Found:
        """The archive that was registered, and no other that took its place since."""
        try:
            return await self._opener.find(wanted.url, again=True, sha256=wanted.sha256)
        except ArchiveRefused as error:
            if error.reason != OTHER_DIGEST:
                raise
            raise ArchiveRefused(
                f"The archive of {ref} was replaced after it was registered, so it is not served: "
                f"{error.message} Put the old archive back, or unregister {ref} and register it "
                "again.",
                error.reason,
            ) from error

    async def _unload(self, ref: ModelRef) -> None:
        self._broken.pop(ref, None)
        deployment = self._directory.withdraw(ref)
        if deployment is not None:
            await deployment.close(self._config.unregister_model_timeout_s)
        if self._directory.get(ref) is None:  # it may have been registered again meanwhile
            self._bus.publish(VersionGone(ref))

    def show(self, deployment: Deployment) -> None:
        """Let requests reach the deployment, and the bare name mean its default version."""
        self._directory.open(deployment)
        name = deployment.ref.name
        self._directory.set_default(ModelRef(name, self._registry.wanted.models[name].default))

    async def forget_archive(self, url: str) -> None:
        """Remove an archive that was fetched for a registration that is over."""
        wanted = self._registry.wanted
        in_use = [wanted[ref].url for ref in wanted.refs()]
        await asyncio.to_thread(self._store.forget, url, in_use)

    def describe(self, ref: ModelRef) -> Description:
        """A wanted version at this moment, open or not."""
        wanted = self.wanted
        model = wanted.models[ref.name]
        is_default = model.default == ref.version
        deployment = self._directory.get(ref)
        if deployment is not None:
            return deployment.describe(is_default)
        version = model.versions[ref.version]
        return Description(
            ref=ref,
            url=version.url,
            is_default=is_default,
            state=VersionState.FAILED if ref in self._broken else VersionState.LOADING,
            settings=version.settings,
            loaded_at_startup=False,
            workers=(),
            pending_requests=0,
            last_error=self._broken.get(ref),
        )
