"""What is wanted survives: failing disks, torn files, processes that end at any moment."""

import errno
import logging
import os
import shutil
from contextlib import suppress

import pytest

from marserve.errors import StateNotSaved
from marserve.model_version import Settings
from marserve.refs import ModelRef
from marserve.registry.registry import FILE_NAME, Registry
from marserve.registry.wanted import Node, Wanted, WantedVersion

PREVIOUS_NAME = "wanted.previous.json"
NONE = Wanted()
ONE = NONE.add(ModelRef("a", "1"), WantedVersion("a.mar", Settings(1, 1)))
TWO = ONE.add(ModelRef("b", "1"), WantedVersion("b.mar", Settings(2, 2)))
THREE = TWO.add(ModelRef("c", "1"), WantedVersion("c.mar", Settings(3, 3)))


@pytest.fixture
def state(tmp_path):
    """The directory of a registry that committed ONE and then TWO."""
    directory = tmp_path / "state"
    registry = Registry(directory)
    registry.commit(ONE)
    registry.commit(TWO)
    return directory


def test_a_new_registry_wants_nothing(tmp_path):
    registry = Registry(tmp_path / "not" / "yet" / "there")

    assert registry.wanted == NONE
    assert registry.restore() == NONE
    assert not (tmp_path / "not").exists()


def test_what_was_committed_is_wanted_now_and_after_a_restart(tmp_path):
    directory = tmp_path / "not" / "yet" / "there"
    registry = Registry(directory)
    registry.commit(ONE)
    registry.commit(TWO)

    assert registry.wanted == TWO
    assert Registry(directory).restore() == TWO


def test_restoring_does_not_yet_make_it_wanted(state):
    registry = Registry(state)

    registry.restore()

    assert registry.wanted == NONE


def test_the_state_before_the_last_is_kept_beside_it(state):
    assert sorted(path.name for path in state.iterdir()) == [FILE_NAME, PREVIOUS_NAME]
    (state / FILE_NAME).unlink()

    assert Registry(state).restore() == ONE


def test_without_a_directory_nothing_is_kept():
    registry = Registry(None)
    registry.commit(ONE)

    assert registry.wanted == ONE
    assert registry.restore() == NONE


# --- damaged files --------------------------------------------------------------------------------

DAMAGES = [
    pytest.param(lambda data: b"", id="empty"),
    pytest.param(lambda data: data[: len(data) // 2], id="torn"),
    pytest.param(lambda data: data[:-2], id="one bracket short"),
    pytest.param(lambda data: b"\x00" * len(data), id="zeros"),
    pytest.param(lambda data: data.replace(b"a.mar", b"z.mar"), id="edited"),
    pytest.param(lambda data: data[:3] + bytes([data[3] ^ 0x80]) + data[4:], id="no utf-8"),
    pytest.param(lambda data: data * 2, id="doubled"),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_moved_aside_loudly_and_the_previous_one_is_used(state, damage, caplog):
    path = state / FILE_NAME
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)

    assert Registry(state).restore() == ONE

    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert f"{path} cannot be used: " in record.message
    assert "it is kept as wanted.damaged" in record.message
    assert (state / "wanted.damaged").read_bytes() == damaged
    assert not path.exists()


def test_a_state_restored_from_the_previous_file_can_be_changed_again(state):
    (state / FILE_NAME).write_bytes(b"{")
    registry = Registry(state)
    registry.commit(registry.restore())
    registry.commit(THREE)

    assert Registry(state).restore() == THREE
    (state / FILE_NAME).unlink()
    assert Registry(state).restore() == ONE


def test_two_damaged_files_leave_nothing_and_are_both_kept(state, caplog):
    (state / FILE_NAME).write_bytes(b"{")
    (state / PREVIOUS_NAME).write_bytes(b"[")

    assert Registry(state).restore() == NONE

    assert len(caplog.records) == 2
    assert sorted(path.name for path in state.iterdir()) == [
        "wanted.damaged",
        "wanted.previous.damaged",
    ]


# --- failing disks and sudden ends ----------------------------------------------------------------


class SuddenEnd(BaseException):
    """The process is no more."""


class Disk:
    """Counts what a commit asks of the file system, and fails or ends the process at one of it."""

    CALLS = ("open", "write", "fsync", "link", "unlink", "rename", "mkdir", "close")

    def __init__(self, monkeypatch):
        self.log = []
        self.fails_at = None
        self.does_it_first = False
        self.error = OSError(errno.EIO, "Input/output error")
        self.close = os.close
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self.guarded(name, getattr(os, name)))

    def guarded(self, name, call):
        def guard(*args, **kwargs):
            return self.step(name, lambda: call(*args, **kwargs))

        return guard

    def step(self, name, do):
        self.log.append(name)
        if len(self.log) - 1 != self.fails_at:
            return do()
        if self.does_it_first:
            with suppress(OSError):
                opened = do()
                if name == "open":
                    self.close(opened)
        raise self.error


def calls_of_a_commit(directory):
    """What a commit over an existing state asks of the disk."""
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        Registry(directory).commit(THREE)
    return disk.log


def test_a_commit_is_flushed_before_it_replaces_and_the_directory_after(state):
    log = calls_of_a_commit(state)

    names = [name for name in log if name in ("write", "fsync", "link", "rename")]
    assert names[-5:] == ["write", "fsync", "link", "rename", "fsync"]


def committed_with_fault(directory, fails_at, does_it_first, error):
    """A registry at TWO whose commit of THREE meets a fault; and what it raised."""
    registry = Registry(directory)
    registry.wanted = TWO
    raised = None
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        disk.fails_at, disk.does_it_first, disk.error = fails_at, does_it_first, error
        try:
            registry.commit(THREE)
        except (StateNotSaved, SuddenEnd) as caught:
            raised = caught
        return registry, raised, len(disk.log) > fails_at


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_wherever_the_disk_fails_the_change_was_made_or_was_not_made_at_all(state, tmp_path, code):
    error = OSError(code, os.strerror(code))
    refusals = 0
    for fails_at in range(100):
        copy = tmp_path / f"copy-{fails_at}"
        shutil.copytree(state, copy)
        registry, raised, was_hit = committed_with_fault(copy, fails_at, False, error)
        if not was_hit:
            break
        expected = THREE if raised is None else TWO
        refusals += raised is not None
        assert registry.wanted == expected, fails_at
        assert Registry(copy).restore() == expected, fails_at
        if raised is not None:
            assert isinstance(raised, StateNotSaved)
            assert os.strerror(code) in str(raised)
        registry.commit(THREE)
        assert Registry(copy).restore() == THREE
    else:
        raise AssertionError("a commit has no end")
    assert refusals >= 5  # file, write, flush, fsync, replace, at the least


@pytest.mark.parametrize("does_it_first", [False, True])
def test_wherever_the_process_ends_a_restart_finds_the_state_before_or_after(
    state, tmp_path, does_it_first, caplog
):
    found = []
    for fails_at in range(100):
        copy = tmp_path / f"copy-{fails_at}"
        shutil.copytree(state, copy)
        _, raised, was_hit = committed_with_fault(copy, fails_at, does_it_first, SuddenEnd())
        if not was_hit:
            break
        assert isinstance(raised, SuddenEnd)
        restarted = Registry(copy)
        restored = restarted.restore()
        assert restored in (TWO, THREE), fails_at
        found.append(restored == THREE)
        restarted.commit(ONE)
        assert Registry(copy).restore() == ONE
    else:
        raise AssertionError("a commit has no end")
    assert found == sorted(found)  # once the new state is there it stays
    assert set(found) == {False, True}
    assert caplog.records == []  # no end leaves a damaged file


def test_the_first_commit_of_all_leaves_nothing_or_everything(tmp_path):
    for fails_at in range(100):
        directory = tmp_path / f"state-{fails_at}"
        registry = Registry(directory)
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch)
            disk.fails_at = fails_at
            try:
                registry.commit(ONE)
            except StateNotSaved:
                expected = NONE
            else:
                expected = ONE
        assert registry.wanted == expected, fails_at
        assert Registry(directory).restore() == expected, fails_at
        if len(disk.log) <= fails_at:
            return
    raise AssertionError("a commit has no end")


def test_a_file_system_without_hard_links_keeps_the_state_before_all_the_same(state, monkeypatch):
    def no_links(*_args, **_kwargs):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    Registry(state).commit(THREE)

    assert Registry(state).restore() == THREE
    (state / FILE_NAME).unlink()
    assert Registry(state).restore() == TWO


def test_a_directory_that_cannot_be_made_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StateNotSaved, match="The change was not made, because it could not be"):
        Registry(tmp_path / "file" / "state").commit(ONE)


def test_nodes_of_workflows_come_and_go_without_a_word_to_the_disk(tmp_path):
    registry = Registry(tmp_path)
    registry.commit(ONE)
    node = ONE.add(ModelRef("w__a", "1"), WantedVersion("a.mar", Settings(1, 1), Node("w")))

    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        registry.commit(node)
        assert registry.wanted == node
        registry.commit(ONE)

    assert disk.log == []
    assert Registry(tmp_path).restore() == ONE
