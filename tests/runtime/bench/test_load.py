"""The load generator against a server whose answers are scripted, over real sockets."""

import asyncio
import contextlib
import itertools
from time import perf_counter

import pytest
import uvloop

from marserve.bench.alarm import Alarm
from marserve.bench.connection import call
from marserve.bench.endpoint import Endpoint
from marserve.bench.load import Load
from marserve.bench.measuring import Measuring
from marserve.bench.plan import Input, Plan, Subject
from marserve.client import ServerRefused, ServerUnreachable

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLOSING = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
FULL = b'HTTP/1.1 503 Busy\r\nContent-Length: 19\r\n\r\n{"message": "full"}'
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
HANG_UP, SILENCE = b"", None


class Scripted:
    """Gives the answers in turn, over and over; counts what it saw."""

    def __init__(self, *answers, delay_s=0.0):
        self.answers = itertools.cycle(answers)
        self.delay_s = delay_s
        self.connections = 0
        self.bodies = []
        self._open = {}

    @contextlib.asynccontextmanager
    async def listening(self, port=0):
        """Its address; whoever is still connected at the end is cut off."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        try:
            yield Endpoint.of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        finally:
            server.close()
            for writer in self._open.values():
                writer.transport.abort()
            await asyncio.gather(*self._open)

    async def _serve(self, reader, writer):
        self.connections += 1
        self._open[asyncio.current_task()] = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                await asyncio.sleep(self.delay_s)
                answer = next(self.answers)
                if answer is SILENCE:
                    continue
                writer.write(answer)
                await writer.drain()
                if answer in (HANG_UP, CLOSING):
                    break
        writer.close()
        del self._open[asyncio.current_task()]


def loaded(server, seconds=0.2, connections=2, rate=None, timeout_s=10.0, bodies=(b"a",)):
    """The tally of a load on a scripted server, from its start to its last answer."""

    async def run():
        async with server.listening() as endpoint:
            messages = [endpoint.message("POST", "/", body) for body in bodies]
            load = Load(endpoint, messages, connections, rate=rate, timeout_s=timeout_s)
            async with load:
                load.start()
                end_at = perf_counter() + seconds
                while perf_counter() < end_at:
                    await asyncio.sleep(0.02)
                    load.check_time()
                await load.drain()
            return load.tally

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


@pytest.mark.parametrize("answer", [OK, CHUNKED, INTERIM + OK, LONG])
def test_a_connection_is_kept_and_every_answer_counts(answer):
    server = Scripted(answer)
    tally = loaded(server)
    assert tally.failures == {}
    assert tally.latencies.count == tally.answers == len(server.bodies) > 10
    assert server.connections == 2


def test_a_server_that_closes_after_each_answer_is_connected_to_anew():
    server = Scripted(CLOSING)
    tally = loaded(server)
    assert tally.failures == {}
    assert tally.latencies.count == len(server.bodies) > 10
    assert server.connections >= tally.latencies.count


def test_bodies_take_turns():
    server = Scripted(OK)
    loaded(server, connections=1, bodies=(b"a", b"b", b"c"))
    assert server.bodies[:6] == [b"a", b"b", b"c", b"a", b"b", b"c"]


def test_refusals_are_counted_apart_with_what_they_say():
    server = Scripted(OK, FULL)
    tally = loaded(server)
    assert list(tally.failures) == ["503"]
    assert tally.failures["503"].message == "full"
    assert tally.latencies.count + tally.failed == tally.answers == len(server.bodies)


def test_a_broken_connection_is_a_failure_and_the_load_goes_on():
    server = Scripted(OK, HANG_UP)
    tally = loaded(server)
    assert list(tally.failures) == ["connection broken"]
    assert tally.failed > 1
    assert tally.latencies.count > 1


@pytest.mark.parametrize(
    "answer", [b"not http at all", b"HTTP/1.1 200 OK\r\nContent-Length: -\r\n\r\n"]
)
def test_what_is_no_http_is_a_failure(answer):
    tally = loaded(Scripted(answer))
    assert tally.answers == 0
    assert tally.failed > 1


def test_silence_is_a_failure_in_time():
    tally = loaded(Scripted(SILENCE), timeout_s=0.1)
    assert tally.answers == 0
    assert tally.failures["no answer"].message == "nothing came within 0.1 s"
    assert tally.failures["no answer"].count >= 2


def test_a_fixed_rate_is_kept_while_the_server_keeps_up():
    server = Scripted(OK)
    tally = loaded(server, seconds=0.5, rate=200.0, connections=4)
    assert tally.failed == 0
    assert 95 <= tally.latencies.count <= 105


def test_a_fixed_rate_counts_from_the_planned_moment():
    # one connection, an answer each 50 ms at best, a request planned each 10 ms: the tenth is
    # answered after half a second but was due after a tenth of one
    tally = loaded(Scripted(OK, delay_s=0.05), seconds=0.5, rate=100.0, connections=1)
    assert 5 <= tally.latencies.count <= 11
    assert tally.latencies.max_s >= 0.04 * (tally.latencies.count - 1)
    assert tally.held_back_s > 0.5 * tally.answers_s


def test_nothing_is_lost_when_the_server_goes_away_and_comes_back():
    async def run():
        async with Scripted(OK).listening() as endpoint:
            message = endpoint.message("POST", "/", b"a")
            load = await Load(endpoint, [message], 1, rate=None, timeout_s=5).__aenter__()
        try:
            load.start()
            while "no connection" not in load.tally.failures:
                await asyncio.sleep(0.01)
            async with Scripted(OK).listening(endpoint.port):
                while load.tally.latencies.count < 3:
                    await asyncio.sleep(0.01)
                await load.drain()
        finally:
            await load.__aexit__()
        return load.tally

    tally = asyncio.run(run())
    assert tally.latencies.count >= 3
    assert "No server answers" in tally.failures["no connection"].message


def test_an_alarm_rings_once_for_the_moment_that_was_set_last():
    async def run():
        rung = []
        with Alarm(lambda: rung.append(perf_counter())) as alarm:
            alarm.set(0.001)
            alarm.set(0.05)
            set_at = perf_counter()
            await asyncio.sleep(0.15)
        return [moment - set_at for moment in rung]

    (passed,) = asyncio.run(run())
    assert passed >= 0.049


def test_nobody_there_is_said_with_the_remedy():
    async def run():
        await call(Endpoint.of("http://127.0.0.1:1"), b"", 1)

    with pytest.raises(ServerUnreachable, match=r"No server answers at .*refused.*marserve start"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [(SILENCE, "has not answered within 0.2 s"), (HANG_UP, "broke off the call")],
)
def test_a_call_that_is_not_answered_says_so(answer, sentence):
    async def run():
        async with Scripted(answer).listening() as endpoint:
            await call(endpoint, endpoint.message("POST", "/", b"a"), 0.2)

    with pytest.raises(ServerUnreachable, match=sentence):
        asyncio.run(run())


def measuring(server, seconds=0.3, connections=3):
    """The point of a scripted server."""

    async def run():
        async with server.listening() as endpoint:
            subject = Subject("m", None, endpoint)
            one = Measuring(subject, [Input(b"a", "text/plain")], Plan(seconds, 0.2, 5.0))
            facts = await one.prepare()
            waited = []
            return facts, await one.measure(connections, waited.append), waited

    return asyncio.run(run())


def test_what_belongs_to_the_warm_up_does_not_count():
    server = Scripted(OK, delay_s=0.01)
    facts, point, waited = measuring(server)
    assert "give --metrics URL" in facts.notes[0]
    assert (point.connections, point.failed, point.server) == (3, 0, None)
    assert point.succeeded == pytest.approx(point.window_s / 0.01 * 3, rel=0.5)
    assert point.succeeded < len(server.bodies) * 0.8
    assert waited == sorted(waited)
    assert waited[-1] >= 0.5


def test_a_first_request_that_is_refused_ends_it():
    with pytest.raises(ServerRefused) as caught:
        measuring(Scripted(FULL))
    assert (caught.value.code, caught.value.message) == (503, "full")
