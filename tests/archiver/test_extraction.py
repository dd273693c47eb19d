import errno
import fcntl
import os
import subprocess
import sys
import zlib
from types import SimpleNamespace

import pytest
from fake_disk import FAULTS, FaultyDisk, SuddenEnd

from marserve_archiver.disk import DISK
from marserve_archiver.errors import ArchiveExists, Malformed, NoSpace
from marserve_archiver.extraction import partial_folder, remove_stale_partials, write_members
from marserve_archiver.members import Member


def content(files: dict[str, bytes]):
    for name, data in files.items():
        member = Member(name, False, len(data), len(data), "stored", zlib.crc32(data))
        yield member, iter([data])


def broken_content():
    yield from content({"a": b"a"})
    raise Malformed("bad-data", "The member 'b' is damaged.")


def test_a_finished_folder_gets_its_name_and_nothing_else_stays(tmp_path):
    with partial_folder(tmp_path / "target") as (path, descriptor):
        assert path.stat().st_mode & 0o7777 == 0o700
        write_members(descriptor, content({"a": b"1", "d/e/f": b"2"}), 2)
        assert not (tmp_path / "target").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["target"]
    assert (tmp_path / "target/d/e/f").read_bytes() == b"2"


def test_a_failure_halfway_leaves_nothing(tmp_path):
    with pytest.raises(Malformed), partial_folder(tmp_path / "target") as (_, descriptor):
        write_members(descriptor, broken_content(), 2)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), partial_folder(tmp_path / "target"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_wins(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target/first").touch()
    with (
        pytest.raises(ArchiveExists),
        partial_folder(tmp_path / "target") as (_, descriptor),
    ):
        write_members(descriptor, content({"second": b""}), 0)
    assert [p.name for p in tmp_path.rglob("*")] == ["target", "first"]


def test_a_link_planted_in_the_private_folder_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "d").symlink_to(outside)
    root = os.open(folder, os.O_RDONLY)
    try:
        with pytest.raises(FileExistsError):
            write_members(root, content({"d/evil": b"x"}), 1)
    finally:
        os.close(root)
    assert list(outside.iterdir()) == []


def test_a_disk_without_room_is_noticed_before_the_first_byte(tmp_path):
    with pytest.raises(NoSpace), partial_folder(tmp_path / "target") as (_, descriptor):
        write_members(descriptor, content({"a": b"1"}), 2**62)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_meanwhile_is_noticed_and_cleaned_up(tmp_path, monkeypatch):
    free_blocks = iter([10**9, 0])
    monkeypatch.setattr(
        os, "fstatvfs", lambda fd: SimpleNamespace(f_bavail=next(free_blocks), f_frsize=4096)
    )
    large = {"a": bytes(64 * 1024 * 1024), "b": b"1"}
    with pytest.raises(NoSpace), partial_folder(tmp_path / "target") as (_, descriptor):
        write_members(descriptor, content(large), 65 * 1024 * 1024)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with (
        pytest.raises(NoSpace, match=r"^The disk is full\. The archive needs 1 bytes\.$"),
        partial_folder(tmp_path / "target") as (_, descriptor),
    ):
        write_members(descriptor, content({"a": b"1"}), 1)
    assert list(tmp_path.iterdir()) == []


def test_only_what_no_living_writer_holds_is_swept(tmp_path):
    (tmp_path / "dead.00.partial/sub").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    with partial_folder(tmp_path / "target") as (path, _):
        assert remove_stale_partials(tmp_path) == ("dead.00.partial",)
        assert path.is_dir()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "target"]


def test_a_writer_that_was_killed_leaves_what_the_sweep_removes(tmp_path):
    code = (
        "import sys, pathlib, time\n"
        "from marserve_archiver.extraction import partial_folder\n"
        "with partial_folder(pathlib.Path(sys.argv[1]) / 'target'):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env=environment
    ) as writer:
        assert writer.stdout.readline() == b"ready\n"
        assert remove_stale_partials(tmp_path) == ()
        writer.kill()
        writer.wait()
        removed = remove_stale_partials(tmp_path)
    assert len(removed) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_swept_before_it_could_be_locked_is_made_again(tmp_path, monkeypatch):
    real_flock = fcntl.flock
    swept = []

    def flock(descriptor, operation):
        if operation == fcntl.LOCK_EX and not swept:
            swept.extend(remove_stale_partials(tmp_path))
        real_flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with partial_folder(tmp_path / "target") as (_, descriptor):
        write_members(descriptor, content({"a": b"1"}), 1)
    assert len(swept) == 1
    assert (tmp_path / "target/a").read_bytes() == b"1"


# --- CRASHFS: every call meets every fault --------------------------------------------------------

FILES = {"a": b"1" * 10, "d/b": b"22", "d/e/c": b"333", "f": b""}


def extracted(folder, disk):
    with partial_folder(folder / "target", disk) as (_, descriptor):
        write_members(descriptor, content(FILES), 15, disk)


def found_in(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


WHOLE = {f"target/{name}": data for name, data in FILES.items()}


@pytest.mark.parametrize("fault", FAULTS)
def test_wherever_the_disk_fails_all_is_there_or_nothing(fault, tmp_path):
    """F15: and a disk that is full says how many bytes are needed."""
    calls = outcomes = 0
    kinds = set()
    for at in range(200):
        folder = tmp_path / str(at)
        folder.mkdir()
        disk = FaultyDisk(DISK, at, fault)
        try:
            extracted(folder, disk)
        except (NoSpace, OSError) as error:
            kinds.add(type(error))
            outcomes += 1
        except SuddenEnd:
            outcomes += 1
            remove_stale_partials(folder)  # the next start
        if not disk.was_hit:
            assert found_in(folder) == WHOLE
            break
        calls += 1
        assert found_in(folder) in ({}, WHOLE), at
        assert [path.name for path in folder.iterdir()] in ([], ["target"]), at
    assert calls >= 20
    assert outcomes == calls
    expected = {"EIO": {OSError}, "ENOSPC": {NoSpace}, "short": {NoSpace}}
    assert kinds == expected.get(fault, set())


def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path):
    """A power cut finds the whole folder or none: see the order of the calls."""
    disk = FaultyDisk(DISK)
    extracted(tmp_path, disk)
    names = [name for name, _ in disk.log]
    renamed = names.index("rename")
    before, after = disk.log[:renamed], names[renamed + 1 :]
    assert sum(name == "sync" for name, _ in before) == len(FILES) + 3  # and d, d/e, the root
    last_change = max(i for i, name in enumerate(names[:renamed]) if name in ("create", "write"))
    assert names[last_change + 1 : renamed].count("sync") >= 3  # folders, when all names are there
    assert after == ["open_folder", "sync"]
