"""Launchers that are real processes, of which some never get anywhere."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from marserve.errors import LoadFailed
from marserve.refs import ModelRef
from marserve.workers.launched import Launcher, Ports
from marserve.workers.messages import FrameKind
from marserve.workers.supervisor import Supervisor
from marserve.workers.torchrun import CpuLaunch

REF = ModelRef("m", "1.0")
LAUNCHERS = {
    "quits": "raise SystemExit(5)",
    "starts": "import subprocess, sys; subprocess.run(sys.argv[1:], start_new_session=True)",
    "waits": "import time; time.sleep(600)",
}


@dataclass
class Fake:
    module: str
    ranks: int = 1
    is_in_step: bool = False
    meets: bool = True

    def arguments(self, start, program):
        return list(program)

    def environ(self, start, inherited):
        return {}


@pytest.fixture
def run(tmp_path, monkeypatch):
    for name, text in LAUNCHERS.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "t").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    ports = Ports(29500)

    async def scenario(act, module):
        supervisor = Supervisor(os.environ)
        try:
            launcher = Launcher(Fake(module), ports, (str(tmp_path),))
            process = await launcher.start(supervisor, "1", REF, sys.executable, ())
            await act(process)
            process.kill()
            await process.exited
        finally:
            await supervisor.close()
        assert list((tmp_path / "t").iterdir()) == []
        assert not ports._taken

    def runs(act, module):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(asyncio.wait_for(scenario(act, module), 30.0))

    return runs


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        ("no_such_package.run", "needs the package no_such_package .* pip install no_such_package"),
        ("quits", "quits, which starts its processes, exited with code 5 before they were there"),
    ],
)
def test_a_launcher_that_ends_says_why(run, module, sentence):
    async def act(process):
        with pytest.raises(LoadFailed, match=sentence):
            await process.open_channel(1 << 20, lambda frame: None, lambda reason: None)

    run(act, module)


def test_a_worker_that_is_given_up_leaves_nothing(run):
    async def act(process):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await process.open_channel(1 << 20, lambda frame: None, lambda reason: None)

    run(act, "waits")


def test_a_rank_ends_with_its_launcher(run):
    async def act(process):
        ends = asyncio.get_running_loop().create_future()
        channel = await process.open_channel(1 << 20, lambda frame: None, ends.set_result)
        launcher, rank = process.pids
        parent = Path(f"/proc/{rank}/stat").read_text().rpartition(")")[2].split()[1]
        assert int(parent) == launcher

        process.kill()

        assert await ends == "its process has ended"
        await process.exited
        await channel.drained()
        channel.close(None)

    run(act, "starts")


def test_a_rank_that_is_told_to_stop_does(run):
    async def act(process):
        ends = asyncio.get_running_loop().create_future()
        channel = await process.open_channel(1 << 20, lambda frame: None, ends.set_result)
        channel.send(FrameKind.STOP, ())

        assert await ends is None
        assert os.WIFEXITED(await process.exited)
        channel.close(None)

    run(act, "starts")


def test_only_workers_that_share_the_cores_are_restarted_for_another_share():
    ports = Ports(29500)
    shared, alone = Launcher(CpuLaunch("", 1), ports), Launcher(Fake("starts"), ports)

    assert not alone.share_among(3)
    assert not shared.share_among(2)  # nobody runs yet
    shared._indexes.add(0)
    assert not shared.share_among(2)
    assert shared.share_among(3)
    assert not shared.share_among(1)  # the ones with two shares are already on their way out
