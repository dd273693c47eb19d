"""Real socketpairs to two ranks, seen as one channel."""

import asyncio
import socket

import msgspec
import pytest
import uvloop

from marserve.workers.frames import Decoder, encode
from marserve.workers.messages import (
    Extra,
    Failure,
    FailureKind,
    FrameKind,
    Load,
    Loaded,
    LoadFailed,
    Result,
)
from marserve.workers.rank_channels import RankChannels

LIMIT = 1 << 20
LOAD = Load("m", "1", "/m", "h.py", 1, 5, True, True, 1, None)
BAD_OUTPUT = Failure(FailureKind.BAD_OUTPUT, "rank 1 returns nothing")
RAISED = Failure(FailureKind.RAISED, "no")


@pytest.fixture
def run():
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield lambda scenario: runner.run(asyncio.wait_for(scenario(), 10.0))


def result(batch, *failures):
    extras = {i: Extra(500, None, [], f) for i, f in enumerate(failures) if f is not None}
    return Result(batch, 0.1, [1] * len(failures), extras, [])


class Ranks:
    """Two bare sockets that play the ranks, and what the server's side hears."""

    def __init__(self, is_in_step=True):
        self.frames, self.ends = [], []
        self.news = asyncio.Event()
        self.channels = RankChannels(is_in_step, self.on_frame, self.on_lost)

    async def __aenter__(self):
        ours, self.peers = zip(*(socket.socketpair() for _ in range(2)), strict=True)
        for peer in self.peers:
            peer.setblocking(False)
        self.decoders = [Decoder(LIMIT) for _ in self.peers]
        self.loop = asyncio.get_running_loop()
        await self.channels.connect(ours, LIMIT)
        return self

    async def __aexit__(self, *_):
        self.channels.close(None)
        for peer in self.peers:
            peer.close()
        await asyncio.sleep(0)

    def on_frame(self, frame):
        self.frames.append((frame.kind, frame.meta, bytes(frame.buffers)))
        self.news.set()

    def on_lost(self, reason):
        self.ends.append(reason)
        self.news.set()

    async def until(self, is_so):
        while not is_so():
            self.news.clear()
            await self.news.wait()

    async def say(self, rank, kind, meta, buffers=()):
        data = encode(kind, msgspec.msgpack.encode(meta), buffers)
        await self.loop.sock_sendall(self.peers[rank], data)

    async def hears(self, rank):
        frames = []
        while not frames:
            data = await self.loop.sock_recv(self.peers[rank], 1 << 16)
            frames += self.decoders[rank].feed(data)
        [frame] = frames
        return frame.kind, frame.meta

    async def settle(self):
        """Until everything said so far must have been read."""
        for _ in range(5):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("is_in_step", [True, False])
def test_every_rank_loads_with_its_own_device(run, is_in_step):
    async def scenario():
        async with Ranks(is_in_step) as ranks:
            ranks.channels.send(FrameKind.LOAD, LOAD)
            for rank in (0, 1):
                kind, meta = await ranks.hears(rank)
                load = msgspec.msgpack.decode(meta, type=Load)
                assert (kind, load.gpu_id, load.in_step) == (FrameKind.LOAD, rank, is_in_step)

    run(scenario)


def test_the_model_is_loaded_when_the_last_rank_has_loaded_it(run):
    async def scenario():
        async with Ranks() as ranks:
            await ranks.say(1, FrameKind.LOADED, Loaded(1.0))
            await ranks.settle()
            assert ranks.frames == []
            await ranks.say(0, FrameKind.LOADED, Loaded(2.0))
            await ranks.until(lambda: ranks.frames)
            assert [kind for kind, _, _ in ranks.frames] == [FrameKind.LOADED]

    run(scenario)


def test_one_rank_that_cannot_load_is_enough_and_is_told_once(run):
    async def scenario():
        async with Ranks() as ranks:
            for rank in (1, 0):
                await ranks.say(rank, FrameKind.LOAD_FAILED, LoadFailed(f"no {rank}"))
                await ranks.until(lambda: ranks.frames)
            await ranks.settle()
            [(kind, meta, _)] = ranks.frames
            assert kind is FrameKind.LOAD_FAILED
            assert msgspec.msgpack.decode(meta, type=LoadFailed).message == "no 1"

    run(scenario)


def test_in_step_the_answer_is_that_of_rank_0_once_all_have_answered(run):
    async def scenario():
        async with Ranks() as ranks:
            ranks.channels.send(FrameKind.BATCH, (7, []))
            assert [await ranks.hears(rank) for rank in (0, 1)]
            await ranks.say(0, FrameKind.PIECE, result(7, None), [b"p"])
            await ranks.say(0, FrameKind.RESULT, result(7, None), [b"0"])
            await ranks.until(lambda: ranks.frames)
            await ranks.settle()
            assert [body for _, _, body in ranks.frames] == [b"p"]
            await ranks.say(1, FrameKind.PIECE, result(7, None), [b"x"])
            await ranks.say(1, FrameKind.RESULT, result(7, BAD_OUTPUT), [b"1"])
            await ranks.until(lambda: len(ranks.frames) == 2)
            assert [body for _, _, body in ranks.frames] == [b"p", b"0"]
            assert ranks.ends == []

    run(scenario)


@pytest.mark.parametrize(
    ("first", "other", "is_trusted"),
    [
        ((RAISED, None), (RAISED, None), True),
        ((None, None), (RAISED, None), True),
        ((BAD_OUTPUT, None), (None, None), True),
        ((RAISED, None), (None, None), False),
        ((None, RAISED), (RAISED, None), False),
    ],
)
def test_ranks_that_may_be_out_of_step_are_ended_after_their_answer(run, first, other, is_trusted):
    async def scenario():
        async with Ranks() as ranks:
            await ranks.say(0, FrameKind.RESULT, result(7, *first), [b"01"])
            await ranks.say(1, FrameKind.RESULT, result(7, *other), [b"23"])
            await ranks.until(lambda: ranks.frames)
            assert [body for _, _, body in ranks.frames] == [b"01"]
            assert (ranks.ends == []) is is_trusted
            assert all("out of step" in reason for reason in ranks.ends)

    run(scenario)


def test_out_of_step_only_rank_0_has_batches_and_a_say(run):
    async def scenario():
        async with Ranks(is_in_step=False) as ranks:
            ranks.channels.send(FrameKind.BATCH, (7, []))
            ranks.channels.send(FrameKind.STOP, ())
            assert (await ranks.hears(1))[0] is FrameKind.STOP
            await ranks.say(1, FrameKind.RESULT, result(7, None), [b"1"])
            await ranks.settle()
            await ranks.say(0, FrameKind.RESULT, result(7, None), [b"0"])
            await ranks.until(lambda: ranks.frames)
            assert [body for _, _, body in ranks.frames] == [b"0"]

    run(scenario)


def test_the_first_rank_that_hangs_up_ends_all(run):
    async def scenario():
        async with Ranks() as ranks:
            ranks.peers[1].close()
            await ranks.until(lambda: ranks.ends)
            ranks.peers[0].close()
            await ranks.channels.drained()
            assert ranks.ends == ["rank 1 of its 2 processes has ended"]

    run(scenario)


def test_ranks_that_were_told_to_stop_may_take_their_time(run):
    async def scenario():
        async with Ranks() as ranks:
            ranks.channels.send(FrameKind.STOP, ())
            ranks.peers[0].shutdown(socket.SHUT_WR)
            await ranks.settle()
            assert ranks.ends == []
            ranks.peers[1].shutdown(socket.SHUT_WR)
            await ranks.until(lambda: ranks.ends)
            assert ranks.ends == [None]

    run(scenario)


def test_a_rank_that_breaks_the_protocol_ends_all(run):
    async def scenario():
        async with Ranks() as ranks:
            await ranks.loop.sock_sendall(ranks.peers[1], b"nonsense" * 4)
            await ranks.until(lambda: ranks.ends)
            [reason] = ranks.ends
            assert "broke the protocol" in reason

    run(scenario)
