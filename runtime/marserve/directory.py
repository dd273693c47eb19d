"""Which deployments serve, by name and version. Management writes it, inference reads it.

A change is one assignment on the event loop, so a request sees either the state before or the
state after, and a deployment stays alive for the requests that were already given to it.
"""

from __future__ import annotations

from collections.abc import Iterator

from marserve.deployment import Deployment
from marserve.errors import ModelNotFound, NoWorkers, VersionNotFound
from marserve.refs import ModelRef


class Directory:
    """Open deployments and the default version of each name."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[str, Deployment]] = {}
        self._defaults: dict[str, str] = {}
        self._broken: dict[ModelRef, str] = {}
        """Versions that are wanted and cannot be opened, and why."""

    def lookup(self, name: str, version: str | None) -> Deployment:
        """The deployment that serves this name and version (None: the default version).

        Raises:
            ModelNotFound, VersionNotFound: nothing does.
            NoWorkers: it is registered, but its archive cannot be opened.
        """
        versions = self._versions.get(name)
        if self._broken:
            self._check_broken(name, version)
        if versions is None:
            raise ModelNotFound(name)
        wanted = version if version is not None else self._defaults.get(name)
        if wanted is None:
            raise ModelNotFound(name)
        deployment = versions.get(wanted)
        if deployment is None:
            raise VersionNotFound(name, wanted)
        return deployment

    def get(self, ref: ModelRef) -> Deployment | None:
        """The deployment of exactly this version, if it is open."""
        return self._versions.get(ref.name, {}).get(ref.version)

    def __iter__(self) -> Iterator[Deployment]:
        for versions in self._versions.values():
            yield from versions.values()

    def refs(self) -> set[ModelRef]:
        """Every open version."""
        return {deployment.ref for deployment in self}

    def defaults(self) -> Iterator[Deployment]:
        """The deployment behind each bare name."""
        for name, version in self._defaults.items():
            deployment = self._versions.get(name, {}).get(version)
            if deployment is not None:
                yield deployment

    def broken_defaults(self) -> Iterator[tuple[ModelRef, str]]:
        """Each bare name whose version cannot be opened, and why."""
        for ref, cause in self._broken.items():
            if self._defaults.get(ref.name) == ref.version:
                yield ref, cause

    def only_startup_model(self) -> str | None:
        """The name of the model that the server was started with, if it was exactly one."""
        names = {deployment.ref.name for deployment in self if deployment.is_from_startup}
        return names.pop() if len(names) == 1 else None

    def mark_broken(self, ref: ModelRef, cause: str, is_default: bool = True) -> None:
        """Requests for this version are told why it cannot serve them."""
        self._broken[ref] = cause
        if is_default:
            self._defaults[ref.name] = ref.version

    def open(self, deployment: Deployment) -> None:
        """From now on requests may reach this deployment."""
        ref = deployment.ref
        self._broken.pop(ref, None)
        self._versions[ref.name] = {**self._versions.get(ref.name, {}), ref.version: deployment}

    def set_default(self, ref: ModelRef) -> None:
        """From now on the bare name means this version."""
        self._defaults[ref.name] = ref.version

    def withdraw(self, ref: ModelRef) -> Deployment | None:
        """No new request reaches this version any more; returns what served it."""
        self._broken.pop(ref, None)
        versions = dict(self._versions.get(ref.name, {}))
        deployment = versions.pop(ref.version, None)
        if versions:
            self._versions[ref.name] = versions
        else:
            self._versions.pop(ref.name, None)
            self._defaults.pop(ref.name, None)
        return deployment

    def _check_broken(self, name: str, version: str | None) -> None:
        wanted = version if version is not None else self._defaults.get(name, "")
        cause = self._broken.get(ModelRef(name, wanted))
        if cause is not None:
            raise NoWorkers(name, version, cause)
