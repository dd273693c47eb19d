"""H-REG: management over a registry on disk, against a model of what an operator should see.

The plane, its versions, its directory and its registry are real; what opens archives is not. Any
order of changes, also two at the same time, disks that fail, and processes that are killed just
before or just after a change is on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from marserve import config as configuration
from marserve.directory import Directory
from marserve.errors import LoadFailed, MarServeError, StateNotSaved
from marserve.events import Bus
from marserve.management import Management
from marserve.model_version import Settings
from marserve.protocols.management import Registration
from marserve.refs import ModelRef
from marserve.registry.registry import Registry
from marserve.registry.wanted import Wanted

# --- the model: what an operator should see -------------------------------------------------------

Models = dict[str, tuple[str, dict[str, int]]]
"""By name: the default version, and how many workers each version is to have."""


@dataclass(frozen=True, slots=True)
class Change:
    """One wish of an operator."""

    what: str
    name: str
    version: str | None
    workers: int = 1
    loads: bool = True


def expected(models: Models, change: Change) -> tuple[Models, str]:
    """What there is afterwards, and what the operator is told."""
    default, versions = models.get(change.name, ("", {}))
    version = change.version or default
    if change.what == "register":
        if version in versions:
            return models, "VersionConflict"
        if not change.loads:
            return models, "LoadFailed"
        kept = {**versions, version: change.workers}
        return {**models, change.name: (default or version, kept)}, "ok"
    if not versions:
        return models, "ModelNotFound"
    if version not in versions:
        return models, "VersionNotFound"
    if change.what == "scale":
        return {**models, change.name: (default, {**versions, version: change.workers})}, "ok"
    if change.what == "set-default":
        return {**models, change.name: (version, versions)}, "ok"
    left = {one: workers for one, workers in versions.items() if one != version}
    if left and version == default:
        return models, "DefaultVersionInUse"
    rest = {name: model for name, model in models.items() if name != change.name}
    return (rest | {change.name: (default, left)} if left else rest), "ok"


# --- what is not real -----------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


class FaultyRegistry(Registry):
    """Fails when told to: "full", or the process is killed "before" or "after" the write."""

    fault: str | None = None

    def commit(self, wanted: Wanted) -> None:
        fault, self.fault = self.fault, None
        if fault == "full":
            raise StateNotSaved("There is no room.")
        if fault == "before":
            raise Killed
        super().commit(wanted)
        if fault == "after":
            raise Killed


class FakeDeployment:
    """One version, as far as management looks at it."""

    def __init__(self, ref: ModelRef, settings: Settings, loads: bool) -> None:
        self.ref = ref
        self.settings = settings
        self.is_from_startup = False
        self.is_closed = False
        self._loads = loads

    def scale(self, min_workers: int, max_workers: int) -> None:
        assert not self.is_closed
        self.settings = replace(self.settings, min_workers=min_workers, max_workers=max_workers)

    async def settled(self) -> None:
        await asyncio.sleep(0)
        if not self._loads:
            raise LoadFailed("it cannot")

    async def close(self, _grace_s: float, _kill_grace_s: float = 0.0) -> None:
        self.is_closed = True
        await asyncio.sleep(0)


class FakeOpener:
    """An archive is what its url says: name, version, whether it loads."""

    def __init__(self) -> None:
        self.made: list[FakeDeployment] = []

    async def find(self, url: str, *_: object, **__: object) -> Any:
        await asyncio.sleep(0)
        _, version, _ = url.split("|")
        manifest = SimpleNamespace(model_version=version)
        return SimpleNamespace(url=url, unpacked=SimpleNamespace(manifest=manifest, sha256=None))

    def decide(self, found: Any, wish: Registration, at_startup: bool) -> Any:
        name, version, _ = found.url.split("|")
        return ModelRef(name, version), Settings(wish.initial_workers or 1, 1)

    async def deploy(self, found: Any, ref: ModelRef, settings: Settings, at_startup: bool) -> Any:
        await asyncio.sleep(0)
        one = FakeDeployment(ref, settings, found.url.endswith("|loads"))
        self.made.append(one)
        return one


class FakeStore:
    def all_archives(self) -> list[str]:
        return []

    def forget(self, _url: str, _in_use: object) -> None:
        pass


# --- the machine ----------------------------------------------------------------------------------

NAMES = st.sampled_from(["m", "m", "m", "n"])  # changes that meet are worth more
VERSIONS = st.sampled_from(["1", "2", "3"])
OFTEN = st.sampled_from([True, True, True, False])
REGISTER = st.builds(Change, st.just("register"), NAMES, VERSIONS, st.integers(1, 3), OFTEN)
CHANGES = st.one_of(
    REGISTER,
    REGISTER,
    st.builds(Change, st.just("unregister"), NAMES, st.one_of(st.none(), VERSIONS)),
    st.builds(Change, st.just("set-default"), NAMES, VERSIONS),
    st.builds(Change, st.just("scale"), NAMES, st.one_of(st.none(), VERSIONS), st.integers(0, 3)),
)


def _while_it_is_decided(
    models: Models, first: Change, second: Change
) -> list[tuple[list[str], Models]]:
    """Who registers what somebody else is about to is told so, whatever becomes of that."""
    refs = {(one.what, one.name, one.version) for one in (first, second)}
    if len(refs) != 1 or first.what != "register":
        return []
    one, other = expected(models, first), expected(models, second)
    return [([one[1], "VersionConflict"], one[0]), (["VersionConflict", other[1]], other[0])]


class RegistryMachine(RuleBasedStateMachine):
    """Changes, faults and restarts in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="marserve-registry-"))
        self.runner = asyncio.Runner()
        self.models: Models = {}

    def teardown(self) -> None:
        self.runner.close()
        shutil.rmtree(self.folder)

    @initialize()
    def start(self) -> None:
        """A new process, which finds what the one before has left on disk."""
        self.registry = FaultyRegistry(self.folder)
        self.directory = Directory()
        self.opener = FakeOpener()
        config = configuration.load(None, {}, {"HOME": "/"}, self.folder).config

        async def begin() -> None:
            parts: Any = (self.registry, FakeStore(), self.opener, self.directory, Bus())
            self.plane = Management(config, *parts)
            assert await self.plane.start() == ()

        self.runner.run(begin())

    @rule(change=REGISTER)
    def register(self, change: Change) -> None:
        self.change(change)

    @rule(change=CHANGES)
    def change(self, change: Change) -> None:
        after, outcome = expected(self.models, change)
        assert self.runner.run(self.made(change)) == outcome
        self.models = after

    @rule(first=CHANGES, second=CHANGES)
    def change_at_the_same_time(self, first: Change, second: Change) -> None:
        """The outcome is that of one order or the other."""

        async def both() -> list[str]:
            return list(await asyncio.gather(self.made(first), self.made(second)))

        got = self.runner.run(both())
        possible = []
        for order in itertools.permutations((0, 1)):
            models, outcomes = self.models, ["", ""]
            for index in order:
                models, outcomes[index] = expected(models, (first, second)[index])
            possible.append((outcomes, models))
        possible += _while_it_is_decided(self.models, first, second)
        seen = self.seen()
        fitting = [models for outcomes, models in possible if outcomes == got and models == seen]
        assert fitting, (got, seen, possible)
        self.models = fitting[0]

    @rule(change=CHANGES)
    def fail_to_save(self, change: Change) -> None:
        self.registry.fault = "full"
        _, outcome = expected(self.models, change)
        told = "StateNotSaved" if outcome == "ok" else outcome
        assert self.runner.run(self.made(change)) == told
        self.registry.fault = None

    @rule(change=CHANGES, moment=st.sampled_from(["before", "after"]))
    def kill_in_the_middle(self, change: Change, moment: str) -> None:
        """Just before a change is on disk it never was; just after, it stays, told or not."""
        self.registry.fault = moment
        after, _ = expected(self.models, change)
        with contextlib.suppress(Killed):
            self.runner.run(self.made(change))
        if moment == "after":
            self.models = after
        self.start()

    @rule()
    def kill(self) -> None:
        self.start()

    async def made(self, change: Change) -> str:
        plane, name, version = self.plane, change.name, change.version
        try:
            match change.what:
                case "register":
                    url = f"{name}|{version}|{'loads' if change.loads else 'fails'}"
                    await plane.register(Registration(url, initial_workers=change.workers))
                case "unregister":
                    await plane.unregister(name, version)
                case "set-default":
                    await plane.set_default(name, version or "")
                case _:
                    await plane.scale(name, version, change.workers, None, synchronous=False)
        except MarServeError as error:
            return type(error).__name__
        return "ok"

    def seen(self) -> Models:
        """What requests and operators would find."""
        found: Models = {}
        for deployment in self.directory:
            ref = deployment.ref
            default = self.directory.lookup(ref.name, None).ref.version
            versions = found.setdefault(ref.name, (default, {}))[1]
            versions[ref.version] = deployment.settings.min_workers
        return found

    @invariant()
    def requests_find_what_is_wanted(self) -> None:
        if hasattr(self, "plane"):
            assert self.seen() == self.models

    @invariant()
    def what_is_on_disk_is_what_is_wanted(self) -> None:
        if hasattr(self, "plane"):
            stored = Registry(self.folder).restore()
            assert {
                name: (one.default, {v: w.settings.min_workers for v, w in one.versions.items()})
                for name, one in stored.models.items()
            } == self.models

    @invariant()
    def what_nobody_wants_is_closed(self) -> None:
        if hasattr(self, "plane"):
            is_open = {one.ref for one in self.opener.made if not one.is_closed}
            assert is_open == self.directory.refs()
