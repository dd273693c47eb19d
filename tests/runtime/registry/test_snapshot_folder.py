import os
from datetime import datetime, timedelta, timezone

import pytest
from fake_disk import FAULTS, FaultyDisk, SuddenEnd

from marserve.config_snapshot import SnapshotVersion
from marserve.config_source import choose
from marserve.registry.snapshot_folder import KEPT, write_snapshot
from marserve_archiver.disk import DISK

NOW = datetime(2026, 11, 22, 13, 3, 3, 146_000, tzinfo=timezone(timedelta(hours=1), "CET"))
MODELS = (SnapshotVersion("fn", "1.0", "fn.mar", is_default=True),)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_snapshot_is_written_for_its_owner_alone(tmp_path):
    folder = tmp_path / "logs" / "config"
    path = write_snapshot(folder, "startup", {"model_store": "/s"}, MODELS, NOW)
    assert path == folder / "20261122130303146-startup.cfg"
    assert names(folder) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert text.splitlines()[1] == "#Sun Nov 22 13:03:03 CET 2026"
    assert r'"created"\: 1795348983146' in text


def test_a_start_like_torchserves_finds_it(tmp_path):
    path = write_snapshot(tmp_path / "logs" / "config", "snapshot", {}, MODELS)
    source = choose(None, {}, tmp_path, like_torchserve=True)
    assert (source.path, source.is_by_torchserve) == (path, False)


@pytest.mark.parametrize("earlier_ms", [0, 1, 3_600_000])
def test_the_last_is_the_newest_though_the_clock_is_set_back(tmp_path, earlier_ms):
    first = write_snapshot(tmp_path, "startup", {}, MODELS, NOW)
    later = NOW - timedelta(milliseconds=earlier_ms)
    second = write_snapshot(tmp_path, "shutdown", {}, MODELS, later)
    assert (first.name, second.name) == (
        "20261122130303146-startup.cfg",
        "20261122130303147-shutdown.cfg",
    )


def test_a_name_that_is_no_moment_stops_nobody(tmp_path):
    (tmp_path / "99999999999999999-startup.cfg").write_text("x")
    assert write_snapshot(tmp_path, "startup", {}, MODELS, NOW).exists()


def test_only_our_own_old_snapshots_are_removed(tmp_path):
    theirs = "20200101000000000-shutdown.cfg"
    (tmp_path / theirs).write_text("#Saving snapshot\n#long ago\na=b\n")
    (tmp_path / "notes.txt").write_text("x")
    written = [
        write_snapshot(tmp_path, "snapshot", {}, MODELS, NOW + timedelta(seconds=n)).name
        for n in range(KEPT + 3)
    ]
    assert names(tmp_path) == [theirs, *written[3:], "notes.txt"]


def test_a_disk_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_snapshot(tmp_path, "startup", {}, MODELS, NOW)
    assert names(tmp_path) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_wherever_the_disk_fails_there_is_a_whole_snapshot_or_none(fault, tmp_path):
    whole = write_snapshot(tmp_path / "whole", "startup", {}, MODELS, NOW).read_bytes()
    for at in range(50):
        folder = tmp_path / str(at)
        disk = FaultyDisk(DISK, at, fault)
        try:
            write_snapshot(folder, "startup", {}, MODELS, NOW, disk)
        except (OSError, SuddenEnd):
            found = [path.read_bytes() for path in folder.glob("*.cfg")]
            assert found in ([], [whole])
            if not fault.startswith("end"):
                assert len(names(folder)) == len(found)  # nothing half is left
        if not disk.was_hit:
            break
        write_snapshot(folder, "snapshot", {}, MODELS, NOW)  # the next one sweeps
        assert all(name.endswith(".cfg") for name in names(folder))
    assert at >= 5
