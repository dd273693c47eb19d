"""Marks that processes cannot shed, and who clears up by them."""

import fcntl
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from running_server import lives

from marserve.workers import marks, warden
from marserve.workers.run_folder import RunFolder, clear_up_after_the_dead

SLEEPING = "import time; print('up', flush=True); time.sleep(60)"
MARKED = f"""
import os, sys
from marserve.workers import marks
marks.put_on(int(sys.argv[1]), 7)
if os.fork():
    os._exit(0)
os.setsid()
os.execve(sys.executable, [sys.executable, "-c", {SLEEPING!r}], {{}})
"""


@pytest.fixture
def started():
    """Start one that has lost its mark's giver, its session and its environment; its pid."""
    running = []

    def start(server):
        process = subprocess.Popen(
            [sys.executable, "-c", MARKED, str(server)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
        )
        process.stdout.readline()
        process.wait()
        running.append(process)
        [pid] = marks.living(lambda mark: mark == (server, 7))
        return pid

    yield start
    for process in running:
        process.stdout.close()


def test_a_process_is_known_when_it_has_shed_all_else_and_only_it_is_ended(started):
    first, second = marks.new(), marks.new()
    pid, other = started(first), started(second)

    assert marks.kill(lambda mark: mark[0] == first) == []

    assert not lives(pid)
    assert lives(other)
    marks.kill(lambda mark: mark[0] == second)
    assert not lives(other)


def test_what_is_not_forked_from_a_zygote_is_known_by_its_environment():
    server = marks.new()
    command = [sys.executable, "-c", SLEEPING]
    with subprocess.Popen(
        command, env=os.environ | marks.environ(server), stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        assert marks.mark_of(process.pid) == (server, 0)
        marks.kill(lambda mark: mark[0] == server)
        assert process.wait() == -9


def test_nobody_is_marked_who_has_no_mark():
    assert marks.mark_of(os.getpid()) is None
    assert marks.mark_of(2**22 + 1) is None


def test_a_living_server_s_folder_is_left_alone_and_a_dead_one_s_is_cleared(tmp_path, started):
    living, dead = RunFolder(tmp_path), RunFolder(tmp_path)
    scratch = dead.scratch("9000")
    (scratch / "file").write_text("x")
    pid = started(dead.mark)
    dead.close()  # as its death does

    assert clear_up_after_the_dead(tmp_path) == [dead.path]

    assert not lives(pid)
    assert list(tmp_path.iterdir()) == [living.path]
    living.close()


def test_a_folder_that_is_none_of_a_server_stays(tmp_path):
    (tmp_path / "marserve-run-zz").mkdir()
    (tmp_path / "marserve-run-12").mkdir()  # without a lock
    (tmp_path / "marserve-run-34").write_text("x")
    (tmp_path / "marserve-run-56").symlink_to(tmp_path)

    assert clear_up_after_the_dead(tmp_path) == []

    assert len(list(tmp_path.iterdir())) == 4


def test_a_lock_that_a_server_holds_is_seen_by_others(tmp_path):
    folder = RunFolder(tmp_path)
    with (folder.path / "lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    folder.close()


def test_the_folder_of_a_living_server_is_locked_so_that_cleaners_pass_it_by(tmp_path):
    """As systemd-tmpfiles asks before it removes what is old."""
    folder = RunFolder(tmp_path)
    handle = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    folder.close()
    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.close(handle)


def test_a_folder_that_somebody_removed_is_made_again_and_locked_again(tmp_path):
    folder = RunFolder(tmp_path)
    shutil.rmtree(folder.path)

    scratch = folder.scratch("9000")

    assert scratch.is_dir()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert clear_up_after_the_dead(tmp_path) == []  # it lives
    folder.close()
    assert clear_up_after_the_dead(tmp_path) == [folder.path]


def test_what_somebody_else_has_put_in_the_place_of_the_folder_is_not_used(tmp_path):
    folder = RunFolder(tmp_path)
    shutil.rmtree(folder.path)
    folder.path.mkdir(mode=0o777)

    with pytest.raises(FileExistsError):
        folder.scratch("9000")

    assert list(folder.path.iterdir()) == []
    folder.close()


def test_removing_a_folder_follows_no_link(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    folder = tmp_path / "folder"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "to_folder").symlink_to(kept)
    (folder / "to_file").symlink_to(kept / "file")
    (folder / "deep" / "file").write_text("x")

    warden.remove(str(folder))

    assert not folder.exists()
    assert (kept / "file").read_text() == "x"
    assert Path(kept).is_dir()
