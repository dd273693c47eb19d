"""What is left of a version that could not be opened: nothing."""

import asyncio
from types import SimpleNamespace

import pytest

from marserve.directory import Directory
from marserve.errors import StateNotSaved
from marserve.events import Bus, VersionGone
from marserve.model_version import Settings
from marserve.refs import ModelRef
from marserve.registry.wanted import Wanted
from marserve.startup import Entry
from marserve.versions import Versions

REF = ModelRef("m", "1.0")


class Opener:
    """Opens everything, and knows what became of it."""

    def __init__(self):
        self.closed_within_s = []

    async def find(self, url, **how):
        return SimpleNamespace(unpacked=SimpleNamespace(sha256="0" * 64))

    def decide(self, found, wish, at_startup):
        return REF, Settings(1, 1)

    async def deploy(self, found, ref, settings, at_startup):
        return SimpleNamespace(ref=ref, close=self.close)

    async def close(self, grace_s):
        self.closed_within_s.append(grace_s)


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_version_whose_registration_cannot_be_saved_at_the_start_is_closed(fails_at):
    """Else it kept its share of the memory for waiting requests, and its clock."""
    commits, gone, opener, bus, directory = [], [], Opener(), Bus(), Directory()
    bus.subscribe(VersionGone, gone.append)

    def commit(wanted):
        commits.append(wanted)
        if len(commits) == fails_at:
            raise StateNotSaved("the disk is full")
        registry.wanted = wanted

    registry = SimpleNamespace(wanted=Wanted(), commit=commit)
    named = SimpleNamespace(models={"m": {"1.0": SimpleNamespace(default_version=True)}})
    versions = Versions(named, registry, None, opener, directory, bus)

    with pytest.raises(StateNotSaved):
        asyncio.run(versions.open_at_startup(Entry("m.mar")))

    assert opener.closed_within_s == [0.0]
    assert [one.ref for one in gone] == [REF]
    assert directory.get(REF) is None
