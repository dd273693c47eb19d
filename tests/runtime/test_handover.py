"""F14: what a server and its successor say to each other, whatever else happens meanwhile."""

import asyncio
import contextlib
import os
import socket
import threading

import pytest

from marserve.change_gate import ChangeGate
from marserve.handover import Handover
from marserve.succession import SOCKET_NAME, Offer, SuccessionFailed, predecessor, send


class Server:
    """The running server's side, on the loop of the test."""

    def __init__(self, log_dir):
        self.log_dir = log_dir
        self.gate = ChangeGate()
        self.told = []
        self.handover = Handover(
            log_dir, self.gate, dict, self.offer, self.told.append, self.told.append
        )
        self.handover.open()

    def offer(self):
        self.told.append("offer")
        return Offer([], ["m:1.0"], keys="{}")

    @contextlib.asynccontextmanager
    async def successor(self):
        """One that has begun to load."""
        conversation = predecessor(self.log_dir, 1.0)
        former = await asyncio.to_thread(conversation.__enter__)
        try:
            yield former
        finally:
            conversation.__exit__(None, None, None)


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario(), 30.0))


def test_nothing_changes_any_more_when_the_offer_is_made(tmp_path):
    async def scenario():
        server = Server(tmp_path)
        async with server.successor():
            assert server.told == [True, "offer"]
        while len(server.told) < 3:
            await asyncio.sleep(0.001)
        assert server.told[2:] == [False]
        server.handover.close()

    run(scenario)


@pytest.mark.parametrize("within_s", ["soon", None, [], {}, "nan"])
def test_who_greets_in_another_form_keeps_nobody_from_taking_over(within_s, tmp_path):
    async def scenario():
        server = Server(tmp_path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.setblocking(False)
            stranger.connect(str(tmp_path / SOCKET_NAME))
            send(stranger, {"says": "hand over", "within_s": within_s})
            loop = asyncio.get_running_loop()
            assert await loop.sock_recv(stranger, 1000) == b""
        async with server.successor() as former:
            assert former.offer.serving == ["m:1.0"]
        server.handover.close()

    run(scenario)


def test_a_successor_that_loads_hears_at_once_that_the_server_is_to_stop(tmp_path):
    async def scenario():
        server = Server(tmp_path)
        async with server.successor() as former:
            told = asyncio.Event()
            former.watch(told.set)
            server.handover.close()
            await told.wait()
            with pytest.raises(SuccessionFailed, match="told to stop"):
                former.succeed()

    run(scenario)


def test_a_successor_that_watches_takes_over_as_ever(tmp_path):
    async def scenario():
        server = Server(tmp_path)
        async with server.successor() as former:
            former.watch(lambda: pytest.fail("nobody said so"))
            former._watch_no_more()  # as `succeed` does itself, on the loop of its own process
            await asyncio.to_thread(former.succeed)
        assert server.told == [True, "offer", os.getpid()]
        server.handover.close()

    run(scenario)


def test_the_end_of_the_server_before_is_no_reason_to_stop(tmp_path):
    """A crash: its successor is all the more needed."""

    async def scenario():
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with listening:
            listening.bind(str(tmp_path / SOCKET_NAME))
            listening.listen(1)

            def offer_and_crash():
                channel, _ = listening.accept()
                with channel:
                    channel.recv(1000)
                    send(channel, {"says": "offer", "ports": [], "serving": []})

            crash = threading.Thread(target=offer_and_crash)
            crash.start()
            conversation = predecessor(tmp_path, 1.0)
            former = await asyncio.to_thread(conversation.__enter__)
            crash.join()
            former.watch(lambda: pytest.fail("nobody said so"))
            for _ in range(5):
                await asyncio.sleep(0)
            former.succeed()
            conversation.__exit__(None, None, None)

    run(scenario)
