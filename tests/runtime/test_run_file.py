import fcntl
import json
import os
import stat
import subprocess
import sys
import threading
from dataclasses import asdict, replace

import psutil
import pytest

from marserve.errors import ConfigInvalid
from marserve.run_file import AlreadyRunning, RunFile, ServerProcess, make_log_dir

ADDRESSES = {"inference": "http://127.0.0.1:8080"}


@pytest.fixture
def other_process():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.communicate(b"\n")


def test_a_claim_speaks_of_this_process_until_it_ends(tmp_path):
    run_file = RunFile(tmp_path / "logs")
    with run_file.claimed() as claim:
        assert run_file.living() == ServerProcess.current()
        claim.complete(ADDRESSES)
        assert run_file.living() == replace(ServerProcess.current(), addresses=ADDRESSES)
    assert list((tmp_path / "logs").iterdir()) == []
    assert run_file.living() is None


def test_a_second_claim_is_refused_while_the_first_lives(tmp_path):
    run_file = RunFile(tmp_path)
    with run_file.claimed() as claim:
        claim.complete(ADDRESSES)
        with pytest.raises(AlreadyRunning) as caught, run_file.claimed():
            pytest.fail("claimed twice")
        assert run_file.living() == claim.server
    assert caught.value.message == (
        f"A server is already running (pid {os.getpid()}; http://127.0.0.1:8080) with the log "
        f"directory {tmp_path}. Stop it with `marserve stop`, or give this one another log_dir."
    )


def write(path, **fields):
    path.write_text(json.dumps(fields))


def test_a_reused_pid_is_not_taken_for_the_server(tmp_path):
    run_file = RunFile(tmp_path)
    current = ServerProcess.current()
    write(run_file.path, pid=current.pid, started_at=current.started_at - 3600, addresses={})
    assert run_file.read() is not None
    assert run_file.living() is None
    with run_file.claimed():
        assert run_file.living() == current


def test_an_ended_process_is_not_living_even_before_it_is_reaped(other_process, tmp_path):
    started_at = psutil.Process(other_process.pid).create_time()
    server = ServerProcess(other_process.pid, started_at)
    assert server.process() is not None
    other_process.kill()
    os.waitid(os.P_PID, other_process.pid, os.WEXITED | os.WNOWAIT)
    assert server.process() is None
    other_process.wait()
    assert server.process() is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x", "started_at": 1}', "\xff"])
def test_a_broken_file_is_no_server(tmp_path, text):
    run_file = RunFile(tmp_path)
    run_file.path.write_text(text, encoding="latin-1")
    assert run_file.living() is None
    with run_file.claimed():
        assert run_file.living() is not None


def test_the_file_of_another_server_is_not_removed(tmp_path, other_process):
    run_file = RunFile(tmp_path)
    with run_file.claimed():
        write(run_file.path, pid=other_process.pid, started_at=1.0, addresses={})
    assert run_file.read() is not None


def test_a_log_directory_below_a_file_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigInvalid, match=r"log_dir=.* cannot be written \(not a directory\)"):
        make_log_dir(tmp_path / "file" / "logs")


def test_a_log_directory_that_is_full_of_a_directory_is_a_sentence(tmp_path):
    RunFile(tmp_path).path.mkdir()
    with (
        pytest.raises(ConfigInvalid, match="cannot be written"),
        RunFile(tmp_path).claimed(),
    ):
        pytest.fail("claimed")


def test_only_the_owner_may_change_the_file(tmp_path):
    run_file = RunFile(tmp_path)
    with run_file.claimed():
        assert stat.S_IMODE(run_file.path.stat().st_mode) & 0o022 == 0


def test_a_claim_waits_for_another_that_is_being_made(tmp_path):
    run_file = RunFile(tmp_path)
    seen = []

    def claim():
        with run_file.claimed() as claim:
            seen.append(claim.server)

    handle = os.open(tmp_path, os.O_RDONLY)
    thread = threading.Thread(target=claim)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        thread.start()
        thread.join(0.2)
        assert seen == []
    finally:
        os.close(handle)
    thread.join()
    assert seen == [ServerProcess.current()]


def test_of_many_servers_that_start_at_once_one_claims(tmp_path):
    script = (
        "import sys, pathlib\n"
        "from marserve.run_file import RunFile, AlreadyRunning\n"
        "print('ready', flush=True); input()\n"
        "try:\n"
        "    with RunFile(pathlib.Path(sys.argv[1])).claimed():\n"
        "        print('claimed', flush=True); input()\n"
        "except AlreadyRunning:\n"
        "    print('refused', flush=True)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        for _ in range(4)
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        words = sorted(process.stdout.readline() for process in processes)
    finally:
        for process in processes:
            process.communicate("\n")
    assert words == ["claimed\n", "refused\n", "refused\n", "refused\n"]


def test_a_server_is_known_for_itself_when_the_clock_was_set(tmp_path):
    """F26: its start time moves with the clock; its birth does not."""
    run_file = RunFile(tmp_path)
    with run_file.claimed() as claim:
        moved = replace(claim.server, started_at=claim.server.started_at - 3600)
        run_file.path.write_text(json.dumps(asdict(moved)))
        assert run_file.living() == moved
        reused = replace(moved, birth="another boot 17")
        run_file.path.write_text(json.dumps(asdict(reused)))
        assert run_file.living() is None
