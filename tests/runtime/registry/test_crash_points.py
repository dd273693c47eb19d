"""I8, F16, F22: what was acknowledged survives, whatever the disk does and whenever power fails."""

import random

import pytest
from crash_points import KEPT, STATE, calls, damaged, points, tried
from fake_disk import FAULTS, FakeDisk

from marserve.registry.durable_file import DurableFile


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
@pytest.mark.parametrize("fault", FAULTS)
def test_wherever_it_fails_what_was_acknowledged_is_found_and_what_was_refused_is_not(
    kept, fault, caplog
):
    roll = random.Random(1)
    looked = refused = 0
    for at, one in points(kept):
        if one == fault:
            more = tried(kept, at, one, roll)
            looked, refused = looked + more[0], refused + more[1]
    assert looked > 250
    assert (refused > 10) == (not fault.startswith("end"))
    assert caplog.records == []  # no cut leaves a damaged file


def test_a_change_makes_the_calls_that_the_tests_let_fail():
    assert [calls(kept) >= 30 for kept in KEPT] == [True, True]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_test_itself_notices_a_missing_sync(kind, monkeypatch):
    sync = FakeDisk.sync

    def careless(self, descriptor):
        is_folder = self._open[descriptor].names is not None
        if is_folder != (kind == "folder"):
            sync(self, descriptor)

    monkeypatch.setattr(FakeDisk, "sync", careless)
    with pytest.raises(AssertionError):
        tried(KEPT[0], 10**6, "EIO", random.Random(1))


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
def test_cut_at_any_byte_or_any_byte_flipped_the_newest_whole_state_is_found(kept, caplog):
    assert damaged(kept, range(0, 10**6, 5)) > 100
    assert len(caplog.records) > 100  # loudly
    assert {record.levelname for record in caplog.records} == {"ERROR"}


def test_a_file_system_without_links_keeps_the_content_before_all_the_same(monkeypatch):
    def no_links(self, source, target):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(FakeDisk, "link", no_links)
    disk = FakeDisk()
    file = DurableFile(STATE, "x.json", disk)
    for content in (b"one", b"two"):
        file.write(content)
    disk.remove(STATE / "x.json")
    assert DurableFile(STATE, "x.json", disk).read(lambda content: content) == b"one"
