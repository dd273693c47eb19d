"""Ranks that come to the private socket, and strangers that do."""

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest
import uvloop

from marserve.errors import LoadFailed
from marserve.workers.launched import Ports, is_installed
from marserve.workers.meeting import Meeting
from marserve.workers.rank import HELLO, SECRET_VARIABLE, SOCKET_VARIABLE


@pytest.fixture
def run():
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield lambda scenario: runner.run(asyncio.wait_for(scenario(), 10.0))


def come(meeting, rank, secret=None):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(meeting.environ[SOCKET_VARIABLE])
    own = bytes.fromhex(meeting.environ[SECRET_VARIABLE])
    peer.sendall(HELLO.pack(secret or own, rank))
    return peer


def test_ranks_are_taken_in_order_and_strangers_are_not(run):
    async def scenario():
        meeting = Meeting(2)
        folder = Path(meeting.environ[SOCKET_VARIABLE]).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        joining = asyncio.create_task(meeting.everyone())
        stranger = come(meeting, 0, b"x" * 32)
        beyond = come(meeting, 2)
        await asyncio.sleep(0.05)
        one = come(meeting, 1)
        await asyncio.sleep(0.05)
        twice = come(meeting, 1)
        hasty = socket.socket(socket.AF_UNIX)
        hasty.connect(meeting.environ[SOCKET_VARIABLE])
        hasty.close()
        await asyncio.sleep(0.05)
        zero = come(meeting, 0)
        taken = await joining
        meeting.close()

        for ours, theirs in zip(taken, (zero, one), strict=True):
            ours.send(b"!")
            assert theirs.recv(1) == b"!"
            ours.close()
        for refused in (stranger, beyond, twice):
            assert refused.recv(1) == b""
            refused.close()
        one.close()
        zero.close()
        assert not folder.exists()
        assert meeting.pids == [os.getpid()] * 2

    run(scenario)


def test_a_meeting_that_is_given_up_hangs_up_and_leaves_nothing(run):
    async def scenario():
        meeting = Meeting(2)
        joining = asyncio.create_task(meeting.everyone())
        peer = come(meeting, 0)
        await asyncio.sleep(0.05)
        joining.cancel()
        await asyncio.wait((joining,))
        meeting.close()

        assert peer.recv(1) == b""
        peer.close()
        assert not Path(meeting.environ[SOCKET_VARIABLE]).parent.exists()

    run(scenario)


def test_a_path_that_is_too_long_is_a_sentence(run, tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))

    with pytest.raises(LoadFailed, match="too long; set TMPDIR"):
        Meeting(1)

    assert list(deep.iterdir()) == []


def test_ports_are_free_and_given_to_one_worker_at_a_time():
    with socket.create_server(("127.0.0.1", 0)) as busy:
        number = busy.getsockname()[1]
        ports = Ports(number)

        first, second = ports.take(), ports.take()
        ports.give_back(first)

        assert number < first < second
        assert ports.take() == first


def test_workers_of_several_ranks_are_named_so_many_ports_apart():
    ports = Ports(29500)

    assert [ports.new_id(2), ports.new_id(4), ports.new_id(1)] == ["29500", "29502", "29506"]


def test_no_port_is_a_sentence():
    with pytest.raises(LoadFailed, match="set initial_distribution_port"):
        Ports(65536).take()


def test_a_module_is_found_without_being_imported(tmp_path):
    (tmp_path / "thing" / "inner").mkdir(parents=True)
    (tmp_path / "thing" / "__init__.py").write_text("raise SystemExit")
    (tmp_path / "thing" / "inner" / "tool.py").touch()
    path = [str(tmp_path)]

    assert is_installed("thing.inner.tool", path)
    assert not is_installed("thing.inner.other", path)
    assert not is_installed("nothing.inner.tool", path)
