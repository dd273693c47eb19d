"""HTTP/2 under the gRPC ports: an independent client, frames made by hand, and hostile ones."""

import asyncio
import contextlib
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import pytest
from grpc_server import configured, run, serving
from hpack import Encoder
from hyperframe import frame as reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marserve.protocols import h2_frames
from marserve.protocols.grpc_messages import prefixed
from marserve.protocols.h2_frames import ErrorCode, frame
from marserve.protocols.h2_headers import encoded
from marserve.protocols.pb.inference_pb2 import PredictionResponse, PredictionsRequest
from marserve.request import Answer
from marserve.servers import grpc_server, sweep
from marserve.servers.grpc_server import H2Timeouts
from marserve.servers.h2_stream import STREAM_WINDOW
from marserve.servers.h2_streams import MAX_STREAMS, PATIENCE

SERVICE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/"
HELLO = h2_frames.PREFACE + h2_frames.settings({})


def fields(method="Predictions", *more):
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", (SERVICE + method).encode()),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *more,
    ]


CALL = encoded(fields())


def body(data=b"", model="echo"):
    asked = PredictionsRequest(model_name=model, input={"a": data})
    return prefixed(asked.SerializeToString())


def headers(stream_id=1, flags=h2_frames.END_HEADERS, block=CALL):
    return frame(h2_frames.HEADERS, flags, stream_id, block)


def data(stream_id=1, flags=h2_frames.END_STREAM, payload=None):
    return frame(h2_frames.DATA, flags, stream_id, body() if payload is None else payload)


class Wire:
    """A connection whose client is made by hand."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, raw):
        self.writer.write(raw)

    async def frame(self):
        """The next frame, as the reference implementation sees it; None at the end."""
        try:
            head = await self.reader.readexactly(9)
            parsed, length = reference.Frame.parse_frame_header(memoryview(head))
            parsed.parse_body(memoryview(await self.reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return None
        return parsed

    async def until(self, kind, **wanted):
        """The next frame of this kind with these attributes; others are skipped."""
        while True:
            got = await self.frame()
            assert got is not None, f"the connection ended before {kind.__name__} {wanted}"
            if isinstance(got, kind) and all(getattr(got, k) == v for k, v in wanted.items()):
                return got

    async def rest(self):
        """All frames to the end."""
        frames = []
        while (one := await self.frame()) is not None:
            frames.append(one)
        return frames


@asynccontextmanager
async def wired(served):
    reader, writer = await asyncio.open_connection(served.port.host, served.port.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


async def still_serves(served):
    answer = await served.inference.Predictions(PredictionsRequest(model_name="echo"))
    assert answer.prediction == b""


# --- an independent client ---


class Client:
    """The h2 library's state machine over a socket: it checks what we send."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.events = []

    def flush(self):
        self.writer.write(self.h2.data_to_send())

    async def until(self, kind, stream_id=None):
        while True:
            for event in self.events:
                if isinstance(event, kind) and stream_id in (None, getattr(event, "stream_id", 0)):
                    self.events.remove(event)
                    return event
            received = await self.reader.read(65536)
            assert received, "the connection ended"
            self.events += self.h2.receive_data(received)
            self.flush()


@asynccontextmanager
async def client(served, wanted=None):
    reader, writer = await asyncio.open_connection(served.port.host, served.port.port)
    one = Client(reader, writer)
    one.h2.initiate_connection()
    one.flush()
    await one.until(h2.events.SettingsAcknowledged)
    if wanted is not None:
        one.h2.update_settings(wanted)
        one.flush()
        await one.until(h2.events.SettingsAcknowledged)
    try:
        yield one
    finally:
        writer.close()


def test_an_independent_client_finds_nothing_to_complain_about():
    async def main():
        async with serving() as served, client(served) as one:
            for stream_id in (1, 3, 5):
                one.h2.send_headers(stream_id, fields())
                one.h2.send_data(stream_id, body(b"%d" % stream_id), end_stream=True)
            one.flush()
            for stream_id in (1, 3, 5):
                head = await one.until(h2.events.ResponseReceived, stream_id)
                assert dict(head.headers)[":status"] == "200"
                got = await one.until(h2.events.DataReceived, stream_id)
                message = PredictionResponse.FromString(got.data[5:])
                assert message.prediction == b"%d" % stream_id
                end = await one.until(h2.events.TrailersReceived, stream_id)
                assert dict(end.headers) == {"grpc-status": "0"}
                await one.until(h2.events.StreamEnded, stream_id)
            one.h2.ping(b"12345678")
            one.flush()
            assert (await one.until(h2.events.PingAckReceived)).ping_data == b"12345678"

    run(main())


def test_an_answer_waits_for_the_windows_of_its_client():
    big = bytes(range(256)) * 1000

    async def main():
        tiny = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10}
        async with serving() as served, client(served, tiny) as one:
            served.data.models["big"] = lambda _: Answer(big)
            for stream_id in (1, 3):
                one.h2.send_headers(stream_id, fields())
                one.h2.send_data(stream_id, body(model="big"), end_stream=True)
            one.flush()
            got = {1: b"", 3: b""}
            ended = set()
            while len(ended) < 2:
                for event in list(one.events):
                    one.events.remove(event)
                    if isinstance(event, h2.events.DataReceived):
                        got[event.stream_id] += event.data
                        grown = len(event.data)
                        one.h2.increment_flow_control_window(grown)
                        with contextlib.suppress(h2.exceptions.StreamClosedError):
                            one.h2.increment_flow_control_window(grown * 3, event.stream_id)
                    elif isinstance(event, h2.events.StreamEnded):
                        ended.add(event.stream_id)
                one.flush()
                if len(ended) < 2:
                    one.events += one.h2.receive_data(await one.reader.read(65536))
            for raw in got.values():
                assert PredictionResponse.FromString(raw[5:]).prediction == big

    run(main())


def test_a_small_answer_is_not_held_up_by_a_large_one_that_waits():
    async def main():
        async with serving() as served, client(served) as one:
            served.data.models["big"] = lambda _: Answer(bytes(200_000))
            served.data.models["none"] = lambda _: Answer(b"")
            one.h2.send_headers(1, fields())
            one.h2.send_data(1, body(model="big"), end_stream=True)
            one.flush()
            for _ in range(4):  # the whole window of the connection
                await one.until(h2.events.DataReceived, 1)
            one.h2.send_headers(3, fields("Ping"))
            one.h2.send_data(3, prefixed(b""), end_stream=True)
            one.h2.send_headers(5, fields("Nobodys"))
            one.h2.send_data(5, prefixed(b""), end_stream=True)
            one.flush()
            end = await one.until(h2.events.ResponseReceived, 5)
            assert dict(end.headers)["grpc-status"] == "12"  # it needs no window
            one.h2.increment_flow_control_window(1 << 20)
            one.h2.increment_flow_control_window(1 << 20, 1)
            one.flush()
            await one.until(h2.events.StreamEnded, 3)
            await one.until(h2.events.StreamEnded, 1)

    run(main())


# --- requests in unusual frames ---


def pieces(raw, size):
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def continued(sizes):
    first, *rest = pieces(CALL, sizes)
    frames = [headers(flags=0, block=first)]
    frames += [frame(h2_frames.CONTINUATION, 0, 1, piece) for piece in rest[:-1]]
    frames += [frame(h2_frames.CONTINUATION, h2_frames.END_HEADERS, 1, rest[-1])]
    return b"".join(frames) + data()


PADDED = h2_frames.PADDED
EMPTY = frame(h2_frames.DATA, 0, 1)
UNUSUAL = {
    "as usual": headers() + data(),
    "in one frame per byte": headers()
    + b"".join(data(flags=0, payload=piece) for piece in pieces(body(), 1))
    + data(payload=b""),
    "with padding": headers(flags=h2_frames.END_HEADERS | PADDED, block=b"\x05" + CALL + bytes(5))
    + data(flags=h2_frames.END_STREAM | PADDED, payload=b"\x64" + body() + bytes(100)),
    "with a priority": frame(h2_frames.PRIORITY, 0, 7, bytes(5))
    + headers(flags=h2_frames.END_HEADERS | h2_frames.WITH_PRIORITY, block=bytes(5) + CALL)
    + data(),
    "in continuations": continued(20),
    "with trailers": headers()
    + data(flags=0)
    + headers(flags=h2_frames.END_HEADERS | h2_frames.END_STREAM, block=encoded([(b"x", b"y")])),
    "among frames that nobody knows": frame(0xBE, 0xFF, 1, b"?")
    + headers()
    + frame(0xBF, 0, 0, b"")
    + data(),
    "with empty frames between": headers() + EMPTY * 10 + data(),
    "with its length announced": headers(
        block=encoded(fields("Predictions", (b"content-length", b"%d" % len(body()))))
    )
    + data(),
    "after other settings": h2_frames.settings({1: 0, 3: 5, 6: 100, 99: 1}) + headers() + data(),
}


@pytest.mark.parametrize("raw", UNUSUAL.values(), ids=UNUSUAL)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_call_is_answered_however_its_frames_are_made_and_cut(raw, size):
    async def main():
        async with serving() as served, wired(served) as wire:
            for piece in pieces(HELLO + raw, size):
                wire.send(piece)
                if size < 100:
                    await asyncio.sleep(0)
            got = await wire.until(reference.DataFrame, stream_id=1)
            assert got.data == prefixed(b"")
            end = await wire.until(reference.HeadersFrame, stream_id=1)
            assert "END_STREAM" in end.flags

    run(main())


# --- what ends a connection ---

RST = h2_frames.rst_stream(1, ErrorCode.CANCEL)
WAITING = headers(block=encoded(fields())) + data(payload=body(model="quiet"))
BROKEN = {
    "an answer to settings with settings": (
        frame(h2_frames.SETTINGS, h2_frames.ACK, 0, bytes(6)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "settings of a stream": (frame(h2_frames.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "half a setting": (frame(h2_frames.SETTINGS, 0, 0, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
    "a window that starts too large": (
        h2_frames.settings({4: 2**31}),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "a window that grows too large": (
        h2_frames.window_update(0, 2**31 - 1),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "a window that grows by nothing": (h2_frames.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
    "a window of no stream": (h2_frames.window_update(5, 1), ErrorCode.PROTOCOL_ERROR),
    "a frame that is too long": (
        frame(h2_frames.DATA, 0, 1, bytes(16_385)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "data of no stream": (data(), ErrorCode.PROTOCOL_ERROR),
    "data of the connection": (data(0), ErrorCode.PROTOCOL_ERROR),
    "a reset of no stream": (RST, ErrorCode.PROTOCOL_ERROR),
    "a reset of the connection": (h2_frames.rst_stream(0, 8), ErrorCode.PROTOCOL_ERROR),
    "a stream of ours": (headers(2), ErrorCode.PROTOCOL_ERROR),
    "a stream 0": (headers(0), ErrorCode.PROTOCOL_ERROR),
    "a promise": (frame(h2_frames.PUSH_PROMISE, 4, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "an echo of a stream": (frame(h2_frames.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "a short echo": (frame(h2_frames.PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "a farewell of a stream": (frame(h2_frames.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "a short priority": (frame(h2_frames.PRIORITY, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
    "too much padding": (
        headers() + data(flags=PADDED, payload=b"\x09abc"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "headers that cannot be decoded": (
        headers(block=b"\xff\xff\xff\xff\xff\xff"),
        ErrorCode.COMPRESSION_ERROR,
    ),
    "headers that go on without a beginning": (
        frame(h2_frames.CONTINUATION, 4, 1, CALL),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "another frame among headers": (headers(flags=0) + data(), ErrorCode.PROTOCOL_ERROR),
    "headers of another stream among headers": (
        headers(flags=0) + frame(h2_frames.CONTINUATION, 4, 3, b""),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "headers without an end": (
        headers(flags=0) + frame(h2_frames.CONTINUATION, 0, 1, bytes(16_000)) * 5,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "headers of nothing without an end": (
        headers(flags=0) + frame(h2_frames.CONTINUATION, 0, 1) * 100,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "data after the end of a stream": (
        headers(block=encoded(fields("Nobodys"))) + data() + data(),
        ErrorCode.STREAM_CLOSED,
    ),
    "headers after the end of a stream": (
        headers(block=encoded(fields("Nobodys"))) + data() + headers(),
        ErrorCode.STREAM_CLOSED,
    ),
    "streams that are opened and reset": (
        b"".join(headers(n) + h2_frames.rst_stream(n, 8) for n in range(1, 2 * PATIENCE + 9, 2)),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "streams that we are made to reset": (  # CVE-2025-8671
        b"".join(headers(n) + h2_frames.window_update(n, 0) for n in range(1, 2 * PATIENCE + 9, 2)),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "streams whose windows grow too large": (
        b"".join(
            headers(n) + h2_frames.window_update(n, h2_frames.MAX_WINDOW)
            for n in range(1, 2 * PATIENCE + 9, 2)
        ),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "very many echoes": (
        h2_frames.ping(bytes(8), is_answer=False) * (PATIENCE + 1),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "very many settings": (
        h2_frames.settings({}) * (PATIENCE + 1),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "very much data with nothing in it": (
        headers() + EMPTY * (PATIENCE + 1),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "very many streams that are refused": (
        b"".join(headers(n) for n in range(1, 2 * (MAX_STREAMS + PATIENCE) + 9, 2)),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "very many malformed calls": (
        b"".join(headers(n, block=b"") for n in range(1, 2 * PATIENCE + 9, 2)),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
}


@pytest.mark.parametrize(("raw", "code"), BROKEN.values(), ids=BROKEN)
def test_a_connection_that_cannot_go_on_ends_with_the_reason(raw, code):
    async def main():
        async with serving() as served:
            async with wired(served) as wire:
                wire.send(HELLO + raw)
                goaway = (await wire.until(reference.GoAwayFrame)).error_code
                assert goaway == code, ErrorCode(goaway).name
                assert await wire.rest() == []
            await still_serves(served)

    run(main())


def test_the_first_frame_must_be_settings():
    async def main():
        async with serving() as served, wired(served) as wire:
            wire.send(h2_frames.PREFACE + h2_frames.ping(bytes(8), is_answer=False))
            got = await wire.until(reference.GoAwayFrame)
            assert got.error_code == ErrorCode.PROTOCOL_ERROR

    run(main())


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b""),
        (b"PRI * HTTP/3.0\r\n\r\n", b""),
        (b"anything", b""),
    ],
)
def test_who_does_not_speak_http2_is_told_so_or_let_go(raw, answer):
    async def main():
        async with serving() as served, wired(served) as wire:
            wire.send(raw)
            got = await wire.reader.read()
            assert got.startswith(answer)
            assert bool(got) == bool(answer)

    run(main())


# --- what ends a stream alone ---

REFUSED = {
    "half closed, and more": (WAITING + data(), ErrorCode.STREAM_CLOSED),
    "a window that grows by nothing": (
        WAITING + h2_frames.window_update(1, 0),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "a window that grows too large": (
        WAITING + h2_frames.window_update(1, 2**31 - 1),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "no request at all": (headers(block=encoded([(b"x", b"y")])), ErrorCode.PROTOCOL_ERROR),
    "more than was announced": (
        headers(block=encoded(fields("Predictions", (b"content-length", b"3")))) + data(),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "less than was announced": (
        headers(block=encoded(fields("Predictions", (b"content-length", b"99")))) + data(),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "trailers that do not end it": (headers() + headers(), ErrorCode.PROTOCOL_ERROR),
    "more than its window": (
        headers()
        + data(flags=0, payload=b"\0\0\x03\x0d\x40" + bytes(16_379))
        + data(flags=0, payload=bytes(16_384)) * (STREAM_WINDOW // 16_384),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
}


@pytest.mark.parametrize(("raw", "code"), REFUSED.values(), ids=REFUSED)
def test_a_stream_that_cannot_go_on_leaves_the_others_alone(raw, code):
    async def main():
        async with serving() as served, wired(served) as wire:
            wire.send(HELLO + raw + headers(7) + data(7))
            got = await wire.until(reference.RstStreamFrame, stream_id=1)
            assert got.error_code == code, ErrorCode(got.error_code).name
            await wire.until(reference.DataFrame, stream_id=7)

    run(main())


def test_more_streams_than_may_be_open_are_refused_and_the_others_served():
    async def main():
        async with serving() as served, wired(served) as wire:
            last = 2 * MAX_STREAMS + 1
            block = CALL
            wire.send(HELLO + b"".join(headers(n, block=block) for n in range(1, last + 2, 2)))
            got = await wire.until(reference.RstStreamFrame)
            assert (got.stream_id, got.error_code) == (last, ErrorCode.REFUSED_STREAM)
            wire.send(data(last, payload=body()))  # it was on its way
            wire.send(data(1))
            await wire.until(reference.DataFrame, stream_id=1)

    run(main())


def test_a_reset_abandons_the_request_and_frames_on_their_way_do_no_harm():
    async def main():
        async with serving() as served, wired(served) as wire:
            wire.send(HELLO + WAITING)
            job = await served.data.jobs.get()
            wire.send(RST + h2_frames.window_update(1, 5) + RST)
            assert await served.codes(1) == [1]
            assert not job.is_open
            wire.send(headers(3) + data(3))
            await wire.until(reference.DataFrame, stream_id=3)

    run(main())


def test_who_is_refused_early_may_go_on_sending_for_a_moment():
    async def main():
        async with serving() as served, wired(served) as wire:
            wire.send(HELLO + headers(block=encoded(fields("Nobodys"))) + data(flags=0))
            end = await wire.until(reference.HeadersFrame, stream_id=1)
            assert "END_STREAM" in end.flags
            got = await wire.until(reference.RstStreamFrame, stream_id=1)
            assert got.error_code == ErrorCode.NO_ERROR
            wire.send(data(flags=0) + data())  # it was on its way
            wire.send(headers(3) + data(3))
            await wire.until(reference.DataFrame, stream_id=3)

    run(main())


# --- large messages ---


def test_half_received_messages_are_bounded_and_all_arrive_in_the_end():
    """40 messages of 6 MB do not fit at once; each is let in when others are through."""

    async def main():
        async with serving(config=configured(max_request_size=7_000_000)) as served:
            served.data.models["size"] = lambda request: b"%d" % len(request.parts[0][2])
            asked = PredictionsRequest(model_name="size", input={"a": bytes(6_000_000)})
            calls = [served.inference.Predictions(asked) for _ in range(40)]
            answers = await asyncio.gather(*calls)
            assert {answer.prediction for answer in answers} == {b"6000000"}

    run(main())


def test_a_stream_is_given_room_for_its_message_and_for_its_padding():
    async def main():
        async with serving() as served, client(served) as one:
            served.data.models["size"] = lambda request: b"%d" % len(request.parts[0][2])
            raw = body(bytes(2_000_000), model="size")
            one.h2.send_headers(1, fields())
            at = 0
            while at < len(raw):
                room = one.h2.local_flow_control_window(1)
                if not room:
                    one.flush()
                    await one.until(h2.events.WindowUpdated)
                    continue
                padding = 100 if room > 16_101 else None
                size = min(room, 16_000)
                one.h2.send_data(1, raw[at : at + size], pad_length=padding)
                at += size
            one.h2.end_stream(1)
            one.flush()
            got = await one.until(h2.events.DataReceived, 1)
            assert PredictionResponse.FromString(got.data[5:]).prediction == b"2000000"

    run(main())


# --- time, and the end ---


@pytest.fixture
def hasty(monkeypatch):
    """Clients must hurry."""
    timeouts = H2Timeouts(hello_s=0.5, write_s=0.1, silent_s=0.1, echo_s=0.5, goodbye_s=0.1)
    monkeypatch.setattr(grpc_server, "DEFAULT_TIMEOUTS", timeouts)
    monkeypatch.setattr(sweep, "EVERY_S", 0.02)


@pytest.mark.parametrize(
    "raw",
    [b"", h2_frames.PREFACE[:10], h2_frames.PREFACE, HELLO + headers(flags=0)],
    ids=["nothing", "half a greeting", "no settings", "half a header block"],
)
def test_who_begins_and_does_not_go_on_is_let_go(hasty, raw):
    async def main():
        async with serving() as served, wired(served) as wire:
            wire.send(raw)
            await wire.rest()

    run(main())


def test_a_silent_client_is_asked_whether_it_is_there_and_let_go_if_not(hasty):
    async def main():
        async with serving() as served:
            async with client(served) as one:
                for _ in range(3):  # it answers
                    await one.until(h2.events.PingReceived)
            async with wired(served) as wire:
                wire.send(HELLO + WAITING)
                job = await served.data.jobs.get()
                await wire.rest()
                assert not job.is_open

    run(main())


def test_a_client_that_does_not_read_is_let_go(hasty):
    async def main():
        async with serving() as served, wired(served) as wire:
            served.data.models["big"] = lambda _: Answer(bytes(30_000_000))
            wire.send(h2_frames.PREFACE + h2_frames.settings({4: 2**31 - 1}))
            wire.send(h2_frames.window_update(0, 2**30))
            wire.send(headers() + data(payload=body(model="big")))
            wire.writer.transport.pause_reading()
            while not served.predictions:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.5)  # it stays paused for much longer than it may
            wire.writer.transport.resume_reading()
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while got := await wire.reader.read(1 << 20):
                    received += len(got)
            assert received < 30_000_000

    run(main())


def test_a_port_that_stops_says_so_twice_and_serves_what_was_on_its_way():
    async def main():
        async with serving() as served, wired(served) as wire:
            wire.send(HELLO + WAITING)
            job = await served.data.jobs.get()
            stopping = asyncio.create_task(served.port.stop(10.0))
            first = await wire.until(reference.GoAwayFrame)
            assert (first.last_stream_id, first.error_code) == (2**31 - 1, 0)
            ping = await wire.until(reference.PingFrame)
            wire.send(headers(3) + data(3))  # sent before the client knew
            await wire.until(reference.DataFrame, stream_id=3)
            wire.send(h2_frames.ping(ping.opaque_data, is_answer=True))
            second = await wire.until(reference.GoAwayFrame)
            assert (second.last_stream_id, second.error_code) == (3, 0)
            wire.send(headers(5) + data(5))  # too late, and told so
            job.resolve(Answer(b"last"))
            got = await wire.until(reference.DataFrame, stream_id=1)
            assert PredictionResponse.FromString(got.data[5:]).prediction == b"last"
            assert all(one.stream_id == 1 for one in await wire.rest())
            await stopping

    run(main())


def test_a_client_that_does_not_hear_is_told_the_end_all_the_same(hasty):
    async def main():
        async with serving() as served, wired(served) as wire:
            wire.send(HELLO)
            await wire.until(reference.SettingsFrame, flags={"ACK"})
            stopping = asyncio.create_task(served.port.stop(10.0))
            goaways = [one for one in await wire.rest() if isinstance(one, reference.GoAwayFrame)]
            assert [one.last_stream_id for one in goaways] == [2**31 - 1, 0]
            await stopping

    run(main())


# --- anything ---

FRAMES = st.builds(
    frame,
    st.integers(0, 11),
    st.integers(0, 255),
    st.sampled_from([0, 1, 1, 1, 3, 5, 2, 2**31 - 1]),
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([CALL, body(), body(model="quiet"), CALL[:9], bytes(4), bytes(8)]),
        st.just(Encoder().encode(fields("StreamPredictions2"))),
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(FRAMES, st.binary(max_size=20)), max_size=25), st.booleans())
def test_whatever_is_sent_harms_nobody_else(sent, greets):
    async def main():
        async with serving() as served:
            failures = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _loop, context: failures.append(context))
            async with wired(served) as wire:
                wire.send((HELLO if greets else b"") + b"".join(sent))
                wire.writer.write_eof()
                while got := await wire.frame():
                    if isinstance(got, reference.GoAwayFrame):
                        assert got.error_code != ErrorCode.INTERNAL_ERROR
            await still_serves(served)
            assert failures == []

    run(main())
