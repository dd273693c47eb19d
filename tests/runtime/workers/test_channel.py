"""A real socketpair on a real loop: frames both ways, and one end, told once."""

import asyncio
import socket

import msgspec
import pytest
import uvloop

from marserve.workers.channel import Channel
from marserve.workers.frames import Decoder, encode
from marserve.workers.messages import FrameKind, Loaded

LIMIT = 1 << 20


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def run(request):
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield lambda scenario: runner.run(asyncio.wait_for(scenario(), 10.0))


class Line:
    """A channel at one end of a socketpair, and the bare socket at the other."""

    def __init__(self):
        self.frames = []
        self.ends = []
        self.news = asyncio.Event()

    async def __aenter__(self):
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.loop = asyncio.get_running_loop()
        _, self.channel = await self.loop.create_connection(
            lambda: Channel(LIMIT, self.on_frame, self.on_lost), sock=ours
        )
        return self

    async def __aexit__(self, *_):
        self.channel.close(None)
        self.peer.close()
        await asyncio.sleep(
            0
        )  # the loop closes the socket of an aborted transport in its next turn

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

    async def say(self, data):
        await self.loop.sock_sendall(self.peer, data)

    async def heard(self):
        """Everything that the peer gets until the end."""
        data = b""
        while piece := await self.loop.sock_recv(self.peer, 65536):
            data += piece
        return data


def test_the_worker_gets_what_is_sent(run):
    async def scenario():
        async with Line() as line:
            line.channel.send(FrameKind.BATCH, (7, ["x"]), [b"one", b"two"])
            decoder, got = Decoder(LIMIT), []
            while not got:
                got = list(decoder.feed(await line.loop.sock_recv(line.peer, 5)))

            [frame] = got
            assert frame.kind is FrameKind.BATCH
            assert msgspec.msgpack.decode(frame.meta) == [7, ["x"]]
            assert bytes(frame.buffers) == b"onetwo"

    run(scenario)


def test_a_frame_in_pieces_and_two_frames_at_once_arrive_in_order(run):
    async def scenario():
        async with Line() as line:
            sent = [(FrameKind.LOADED, b"a", b""), (FrameKind.RESULT, b"b", b"12345")]
            stream = b"".join(encode(kind, meta, [body]) for kind, meta, body in sent)
            for byte in stream[:-3]:
                await line.say(bytes([byte]))
            await line.until(lambda: len(line.frames) == 1)
            await line.say(stream[-3:] + stream)
            await line.until(lambda: len(line.frames) == 4)

            assert line.frames == sent + sent
            assert line.ends == []

    run(scenario)


def test_a_frame_larger_than_every_buffer_arrives_whole(run):
    async def scenario():
        async with Line() as line:
            body = bytes(range(256)) * 3000
            sending = asyncio.ensure_future(line.say(encode(FrameKind.RESULT, b"m", [body])))
            await line.until(lambda: line.frames)
            await sending

            assert line.frames == [(FrameKind.RESULT, b"m", body)]

    run(scenario)


def test_large_and_small_frames_take_turns_in_both_directions(run):
    async def scenario():
        async with Line() as line:
            bodies = [b"small", bytes(range(256)) * 2000, b"", bytes(range(7)) * 20000, b"end"]
            sent = [(FrameKind.RESULT, b"m", body) for body in bodies]
            stream = b"".join(encode(kind, meta, [body]) for kind, meta, body in sent)
            saying = asyncio.ensure_future(line.say(stream))
            await line.until(lambda: len(line.frames) == len(sent))
            await saying
            assert line.frames == sent

            line.channel.send(FrameKind.BATCH, (1,), bodies)
            line.channel.send(FrameKind.STOP, ())
            decoder, got = Decoder(LIMIT), []
            while len(got) < 2:
                got += decoder.feed(await line.loop.sock_recv(line.peer, 65536))
            assert bytes(got[0].buffers) == b"".join(bodies)
            assert got[1].kind is FrameKind.STOP

    run(scenario)


def test_a_peer_that_dies_in_the_middle_of_a_large_frame_ends_the_channel_once(run):
    async def scenario():
        async with Line() as line:
            await line.say(encode(FrameKind.RESULT, b"m", [bytes(200_000)])[:100_000])
            line.peer.close()
            await line.until(lambda: line.ends)

            assert line.frames == []
            assert line.ends == [None]

    run(scenario)


def test_a_peer_that_hangs_up_has_broken_nothing(run):
    async def scenario():
        async with Line() as line:
            await line.say(encode(FrameKind.LOADED, b"last words")[:-2])
            line.peer.shutdown(socket.SHUT_RDWR)
            await line.channel.drained()

            assert line.frames == []
            assert line.ends == [None]

    run(scenario)


def test_what_a_dead_peer_had_still_sent_is_delivered_first(run):
    async def scenario():
        async with Line() as line:
            await line.say(encode(FrameKind.RESULT, b"m", [b"answer"]))
            line.peer.close()
            await line.channel.drained()

            assert line.frames == [(FrameKind.RESULT, b"m", b"answer")]
            assert line.ends == [None]

    run(scenario)


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"\x00" * 16, "the worker broke the protocol: not a frame: kind 0, format 0"),
        (b"Traceback (most recent call last):\n", "the worker broke the protocol: not a frame"),
        (encode(FrameKind.RESULT, b"", [b"x" * LIMIT]), "is over the limit 1048576"),
    ],
)
def test_a_peer_that_breaks_the_format_loses_the_connection(run, garbage, reason):
    async def scenario():
        async with Line() as line:
            saying = asyncio.ensure_future(line.say(encode(FrameKind.LOADED, b"ok") + garbage))
            await line.until(lambda: line.ends)
            await asyncio.wait([saying])
            saying.exception()  # the rest of a large frame may find the line cut: as it should

            assert line.frames == [(FrameKind.LOADED, b"ok", b"")]
            [end] = line.ends
            assert reason in end
            with pytest.raises(OSError, match="Broken pipe"):
                line.peer.send(b"more")

    run(scenario)


def test_a_message_of_the_wrong_form_ends_the_connection_like_a_bad_frame(run):
    class Reading(Line):
        def on_frame(self, frame):
            msgspec.msgpack.decode(frame.meta, type=Loaded)
            super().on_frame(frame)

    async def scenario():
        async with Reading() as line:
            bad = encode(FrameKind.LOADED, msgspec.msgpack.encode(["soon"]))
            await line.say(bad)
            await line.until(lambda: line.ends)

            assert line.frames == []
            [end] = line.ends
            assert end.startswith("the worker broke the protocol: Expected `float`, got `str`")

    run(scenario)


def test_no_frame_comes_after_the_end(run):
    class OneIsEnough(Line):
        def on_frame(self, frame):
            super().on_frame(frame)
            self.channel.close("it talks too much")

    async def scenario():
        async with OneIsEnough() as line:
            await line.say(encode(FrameKind.LOADED, b"1") + encode(FrameKind.LOADED, b"2"))
            await line.until(lambda: line.ends)

            assert line.frames == [(FrameKind.LOADED, b"1", b"")]
            assert line.ends == ["it talks too much"]

    run(scenario)


def test_closing_tells_the_reason_once_and_hangs_up(run):
    async def scenario():
        async with Line() as line:
            line.channel.close("it hangs")
            line.channel.close("again")

            assert line.ends == ["it hangs"]
            assert await line.heard() == b""
            assert line.ends == ["it hangs"]

    run(scenario)


def test_sending_after_the_end_does_nothing(run):
    async def scenario():
        async with Line() as line:
            line.channel.close(None)
            line.channel.send(FrameKind.STOP, ())

            assert await line.heard() == b""

    run(scenario)


def test_draining_does_not_wait_for_ever_for_a_line_that_somebody_else_holds_open(run):
    async def scenario():
        async with Line() as line:
            before = line.loop.time()
            await line.channel.drained()

            assert 0.9 <= line.loop.time() - before < 5.0
            assert line.ends == []

    run(scenario)
