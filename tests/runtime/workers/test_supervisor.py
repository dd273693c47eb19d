"""Workers and those who start them, when one of the two is gone or cannot."""

import asyncio
import os
import signal
import sys

import msgspec
import pytest

from marserve.errors import LoadFailed
from marserve.refs import ModelRef
from marserve.workers.frames import encode
from marserve.workers.messages import FrameKind, Load
from marserve.workers.supervisor import Supervisor

REF = ModelRef("m", "1")
FAILS_ONCE = """
import os
fork, tries = os.fork, []
def once():
    tries.append(1)
    if len(tries) == 1:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork = once
"""


def test_a_zygote_that_cannot_fork_says_so_and_forks_the_next_time(tmp_path):
    (tmp_path / "fails_once.py").write_text(FAILS_ONCE)

    async def scenario():
        supervisor = Supervisor(os.environ | {"PYTHONPATH": str(tmp_path)})
        try:
            with pytest.raises(LoadFailed, match="Resource temporarily unavailable"):
                await supervisor.spawn("1", REF, ("fails_once",), sys.executable)
            process = await supervisor.spawn("2", REF, ("fails_once",), sys.executable)
            process.channel.close()
            assert await process.exited == 0
        finally:
            await supervisor.close()

    asyncio.run(scenario())


def test_a_worker_ends_with_its_channel_even_while_its_handler_loops(tmp_path):
    """The thread that waits for it, alone: nobody else ends this worker (I6)."""
    began = tmp_path / "began"
    (tmp_path / "h.py").write_text(f"open({str(began)!r}, 'w').close()\nwhile True:\n    pass\n")
    load = Load("m", "1", str(tmp_path), "h.py", 1, None, True, True, 1, None)

    async def scenario():
        supervisor = Supervisor(os.environ)
        try:
            process = await supervisor.spawn("1", REF, (), sys.executable)
            process.channel.setblocking(True)
            process.channel.sendall(encode(FrameKind.LOAD, msgspec.msgpack.encode(load)))
            while not began.exists():
                await asyncio.sleep(0.01)
            process.channel.close()
            async with asyncio.timeout(10):
                assert await process.exited == 0
        finally:
            await supervisor.close()

    asyncio.run(scenario())


def test_a_zygote_that_does_nothing_is_ended_when_waking_it_does_not_help(monkeypatch):
    monkeypatch.setattr("marserve.workers.supervisor._DEAF_S", 0.05)
    monkeypatch.setattr("marserve.workers.supervisor._DEAF_FOR_GOOD_S", 0.1)

    async def scenario():
        supervisor = Supervisor(os.environ)
        try:
            first = await supervisor.spawn("1", REF, (), sys.executable)
            [zygote] = supervisor._zygotes.values()
            process = zygote._process
            process.send_signal(signal.SIGSTOP)
            send = process.send_signal
            monkeypatch.setattr(
                process, "send_signal", lambda number: number == signal.SIGCONT or send(number)
            )
            async with asyncio.timeout(20):
                with pytest.raises(LoadFailed, match="has ended"):
                    await supervisor.spawn("2", REF, (), sys.executable)
                assert await first.exited == -1
                third = await supervisor.spawn("3", REF, (), sys.executable)
            for process in (first, third):
                process.channel.close()
        finally:
            await supervisor.close()

    asyncio.run(scenario())
