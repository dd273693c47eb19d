"""One HTTP connection over a real socket on a real loop: framing, order, limits, time, and ends.

Where time matters the test says what time it is (`check_time` takes `now`), so nothing sleeps.
"""

import asyncio
import os
import socket
import time
from contextlib import suppress

import pytest
import uvloop

from marserve.servers.connection import MAX_UNSENT_BYTES, HttpConnection
from marserve.servers.exchange import Timeouts
from marserve.servers.request_reader import MAX_FIELDS, MAX_HEAD_BYTES, MAX_TARGET_BYTES

MAX_BODY = 100_000
LIMITS = Timeouts(idle_s=75.0, head_s=10.0, body_s=30.0, write_s=20.0)


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def run(request):
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield lambda scenario: runner.run(asyncio.wait_for(scenario(), 20.0))


class Port:
    """Answers each request with its target and body, at once or (`/later…`) when told to."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.connections = set()
        self.served = []
        self.refused = []
        self.later = {}
        self.gone = []
        self.news = asyncio.Event()

    async def __aenter__(self):
        self.server = await self.loop.create_server(
            lambda: HttpConnection(
                self.loop, MAX_BODY, self.on_request, self.on_refused, self.connections
            ),
            "127.0.0.1",
        )
        self.address = self.server.sockets[0].getsockname()
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for connection in list(self.connections):
            connection.abort()
        await self.until(lambda: not self.connections)

    def on_request(self, exchange):
        self.served.append((exchange.method, exchange.target, exchange.body))
        self.news.set()
        if exchange.target.startswith(b"/later"):
            self.later[exchange.target] = exchange
            exchange.on_gone = lambda: self.on_gone(exchange.target)
        else:
            answer(exchange)

    def on_refused(self, exchange, status):
        self.refused.append(status)
        assert not exchange.keep_alive
        answer(exchange, status, b"refused")

    def on_gone(self, target):
        self.gone.append(target)
        self.news.set()

    async def until(self, is_so):
        while not is_so():
            self.news.clear()
            try:
                await asyncio.wait_for(self.news.wait(), 0.01)
            except TimeoutError:
                continue

    async def settle(self):
        """Give a connection that was closed the time to be gone."""
        await asyncio.sleep(0.02)

    @property
    def connection(self):
        [connection] = self.connections
        return connection


def answer(exchange, status=200, body=None):
    body = b"%s %s" % (exchange.target, exchange.body[:50]) if body is None else body
    connection = b"keep-alive" if exchange.keep_alive else b"close"
    exchange.respond(
        b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: %s\r\n\r\n"
        % (status, len(body), connection),
        body,
    )


class Client:
    def __init__(self, port, **options):
        self.port = port
        self.options = options

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(
            *self.port.address, limit=1 << 20, **self.options
        )
        return self

    async def __aexit__(self, *_):
        self.writer.transport.abort()

    def send(self, data):
        self.writer.write(data)

    async def answer(self, has_body=True):
        """Status, keep-alive or close, and body of the next answer."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ") for line in lines[1:] if line)
        length = int(headers["content-length"]) if has_body else 0
        body = await self.reader.readexactly(length)
        return int(lines[0].split()[1]), headers["connection"], body

    async def everything(self):
        """All bytes up to the end of the connection."""
        return await self.reader.read()


def request(target=b"/a", body=b"", method=b"POST", *more):
    lines = b"".join(line + b"\r\n" for line in more)
    return b"%s %s HTTP/1.1\r\nHost: x\r\ncontent-length: %d\r\n%s\r\n%s" % (
        method,
        target,
        len(body),
        lines,
        body,
    )


def chunked(*chunks):
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return (
        b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"
    )


def scenario_with_client(run, story):
    async def scenario():
        async with Port() as port, Client(port) as client:
            await story(port, client)

    run(scenario)


# --- requests and answers -------------------------------------------------------------------------


def test_a_request_is_handed_on_with_its_parts(run):
    async def story(port, client):
        client.send(request(b"/later/x?y=1", b"body", b"PUT", b"X-Odd:  v\xe9 ", b"x-odd: 2"))
        await port.until(lambda: port.later)
        [exchange] = port.later.values()

        assert exchange.method == b"PUT"
        assert exchange.target == b"/later/x?y=1"
        assert exchange.body == b"body"
        assert [(name, value.strip()) for name, value in exchange.headers] == [
            (b"Host", b"x"),
            (b"content-length", b"4"),
            (b"X-Odd", b"v\xe9"),
            (b"x-odd", b"2"),
        ]
        assert exchange.header(b"host") == b"x"
        assert exchange.header(b"x-odd").strip() == b"v\xe9"
        assert exchange.header(b"absent") == b""
        assert exchange.keep_alive
        assert 0.0 <= time.monotonic() - exchange.received_at < 5.0
        host, number = client.writer.get_extra_info("sockname")
        assert exchange.client == f"{host}:{number}"

    scenario_with_client(run, story)


def test_a_connection_serves_one_request_after_the_other(run):
    async def story(port, client):
        for number in range(3):
            client.send(request(b"/%d" % number, b"x" * number))
            assert await client.answer() == (200, "keep-alive", b"/%d %s" % (number, b"x" * number))

    scenario_with_client(run, story)


def test_a_request_may_come_byte_by_byte(run):
    async def story(port, client):
        for data in (request(b"/a", b"12345"), chunked(b"1", b"2345")):
            for position in range(len(data)):
                client.send(data[position : position + 1])
                await asyncio.sleep(0)
            status, _, body = await client.answer()
            assert (status, body[-5:]) == (200, b"12345")

    scenario_with_client(run, story)


def test_pipelined_requests_are_answered_in_their_order_whichever_is_ready_first(run):
    async def story(port, client):
        client.send(request(b"/later/1") + request(b"/b", b"2") + request(b"/later/3"))
        client.send(request(b"/d", b"4"))
        await port.until(lambda: b"/later/1" in port.later)
        assert len(port.served) == 1

        answer(port.later[b"/later/1"])
        await port.until(lambda: b"/later/3" in port.later)
        answer(port.later[b"/later/3"])

        bodies = [(await client.answer())[2] for _ in range(4)]
        assert bodies == [b"/later/1 ", b"/b 2", b"/later/3 ", b"/d 4"]

    scenario_with_client(run, story)


@pytest.mark.parametrize("count", [15, 16, 17, 18, 3000])
def test_any_number_of_pipelined_requests_is_answered(run, count):
    async def story(port, client):
        client.send(request(b"/later") + b"".join(request(b"/%d" % n) for n in range(count)))
        await port.until(lambda: port.later)
        client.send(request(b"/last"))
        answer(port.later[b"/later"])

        bodies = [(await client.answer())[2] for _ in range(count + 2)]

        assert bodies == [b"/later ", *[b"/%d " % n for n in range(count)], b"/last "]

    scenario_with_client(run, story)


@pytest.mark.parametrize(
    ("version", "header", "stays"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: keep-alive\r\n", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: CLOSE, x\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: close\r\n", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
    ],
)
def test_who_asked_for_the_end_of_the_connection_gets_it(run, version, header, stays):
    async def story(port, client):
        client.send(b"GET /a HTTP/%s\r\nHost: x\r\n%s\r\n" % (version, header))
        assert await client.answer() == (200, "keep-alive" if stays else "close", b"/a ")
        client.send(request(b"/b"))
        if stays:
            assert (await client.answer())[2] == b"/b "
        else:
            assert await client.everything() == b""
            assert [served[1] for served in port.served] == [b"/a"]

    scenario_with_client(run, story)


def test_what_follows_a_last_request_is_not_served(run):
    async def story(port, client):
        client.send(request(b"/a", b"", b"POST", b"Connection: close") + request(b"/b"))

        assert (await client.everything()).count(b"HTTP/1.1 ") == 1
        assert [served[1] for served in port.served] == [b"/a"]

    scenario_with_client(run, story)


def test_an_answer_to_head_announces_its_body_and_leaves_it_out(run):
    async def story(port, client):
        client.send(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n" + request(b"/b"))

        assert await client.answer(has_body=False) == (200, "keep-alive", b"")
        assert (await client.answer())[2] == b"/b "

    scenario_with_client(run, story)


def test_a_second_answer_to_a_request_is_not_sent(run):
    async def story(port, client):
        client.send(request(b"/later/1"))
        await port.until(lambda: port.later)
        first = port.later[b"/later/1"]
        answer(first)
        answer(first, 500)
        client.send(request(b"/later/2"))
        await port.until(lambda: b"/later/2" in port.later)
        answer(first, 500)
        answer(port.later[b"/later/2"])

        assert (await client.answer())[2] == b"/later/1 "
        assert (await client.answer())[2] == b"/later/2 "

    scenario_with_client(run, story)


# --- bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "body"),
    [
        ([], b""),
        ([b"one"], b"one"),
        ([b"one", b"two", b"\r\n0\r\n\r\n"], b"onetwo\r\n0\r\n\r\n"),
        ([b"x" * 1000] * 100, b"x" * MAX_BODY),
    ],
)
def test_chunks_make_one_body(run, chunks, body):
    async def story(port, client):
        client.send(chunked(*chunks) + request(b"/next"))

        assert (await client.answer())[0] == 200
        assert (await client.answer())[2] == b"/next "
        assert port.served[0] == (b"POST", b"/c", body)

    scenario_with_client(run, story)


def test_trailers_are_not_headers(run):
    async def story(port, client):
        sent = chunked(b"1")[:-2] + b"Content-Type: application/json\r\nX: y\r\n\r\n"
        client.send(sent.replace(b"/c", b"/later"))
        await port.until(lambda: port.later)

        assert port.later[b"/later"].headers == [
            (b"Host", b"x"),
            (b"Transfer-Encoding", b"chunked"),
        ]

    scenario_with_client(run, story)


def test_a_body_of_exactly_the_limit_is_taken(run):
    async def story(port, client):
        client.send(request(b"/a", b"x" * MAX_BODY))

        assert (await client.answer())[0] == 200
        assert len(port.served[0][2]) == MAX_BODY

    scenario_with_client(run, story)


def test_a_body_announced_too_large_is_refused_before_it_comes(run):
    async def story(port, client):
        client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1))

        assert await client.answer() == (413, "close", b"refused")
        assert await client.everything() == b""
        assert port.served == []

    scenario_with_client(run, story)


def test_who_sends_a_body_too_large_can_still_read_why_it_was_refused(run):
    async def story(port, client):
        client.send(request(b"/a", b"x" * 5_000_000) + request(b"/b"))
        await client.writer.drain()

        assert await client.answer() == (413, "close", b"refused")
        assert await client.everything() == b""
        assert port.served == []

    scenario_with_client(run, story)


def test_a_chunked_body_that_grows_too_large_is_refused(run):
    async def story(port, client):
        client.send(chunked(*[b"x" * 1000] * 101) + request(b"/b"))

        assert await client.answer() == (413, "close", b"refused")
        assert await client.everything() == b""
        assert port.served == []
        assert port.refused == [413]

    scenario_with_client(run, story)


def test_a_client_that_expects_to_be_asked_is_asked(run):
    async def story(port, client):
        data = request(b"/a", b"12345", b"POST", b"Expect: 100-Continue")
        client.send(data[:-5])
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert port.served == []
        client.send(data[-5:])

        assert await client.answer() == (200, "keep-alive", b"/a 12345")

    scenario_with_client(run, story)


@pytest.mark.parametrize(
    ("length", "expect", "status"),
    [(5, b"200-ok", 417), (5, b"", None), (MAX_BODY + 1, b"100-continue", 413)],
)
def test_an_expectation_that_cannot_be_met_is_refused_instead(run, length, expect, status):
    async def story(port, client):
        client.send(
            b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: %s\r\n\r\n"
            % (length, expect)
        )
        if status is None:
            client.send(b"12345")
            assert (await client.answer())[0] == 200
        else:
            assert await client.answer() == (status, "close", b"refused")
            assert await client.everything() == b""
            assert port.served == []

    scenario_with_client(run, story)


# --- requests for another protocol ----------------------------------------------------------------

UPGRADE = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")


def test_a_request_for_another_protocol_is_served_in_this_one(run):
    async def story(port, client):
        client.send(request(b"/a", b"", b"GET", *UPGRADE))
        assert await client.answer() == (200, "keep-alive", b"/a ")
        client.send(request(b"/b", b"2"))
        assert await client.answer() == (200, "keep-alive", b"/b 2")

    scenario_with_client(run, story)


@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_the_body_of_a_request_for_another_protocol_is_a_body(run, pause, is_chunked):
    inner = request(b"/smuggled")
    plain = request(b"/a", inner, b"POST", *UPGRADE)
    if is_chunked:
        head = b"POST /a HTTP/1.1\r\nHost: x\r\n" + b"\r\n".join(UPGRADE)
        plain = head + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        plain += b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)
    cut = plain.index(b"\r\n\r\n") + 4

    async def story(port, client):
        client.send(plain[:cut])
        if pause:
            await client.writer.drain()
            await asyncio.sleep(0.02)  # another read; not waiting would be the easier case
        client.send(plain[cut:] + request(b"/b"))

        assert (await client.answer())[2] == b"/a " + inner[:50]
        assert (await client.answer())[2] == b"/b "
        assert [served[1:] for served in port.served] == [(b"/a", inner), (b"/b", b"")]

    scenario_with_client(run, story)


def test_many_pipelined_requests_for_another_protocol_are_served_in_this_one(run):
    async def story(port, client):
        client.send(b"".join(request(b"/%d" % n, b"x", b"POST", *UPGRADE) for n in range(500)))

        bodies = [(await client.answer())[2] for _ in range(500)]
        assert bodies == [b"/%d x" % n for n in range(500)]

    scenario_with_client(run, story)


@pytest.mark.parametrize("target", [b"/a", b"host:443"])
def test_no_tunnel_is_opened(run, target):
    async def story(port, client):
        client.send(request(target, b"", b"CONNECT") + request(b"/b"))

        assert await client.answer() == (400, "close", b"refused")
        assert await client.everything() == b""
        assert port.served == []

    scenario_with_client(run, story)


# --- limits of the head ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "status"), [(MAX_TARGET_BYTES, 200), (MAX_TARGET_BYTES + 1, 414)]
)
def test_the_length_of_a_target_is_limited(run, length, status):
    async def story(port, client):
        client.send(request(b"/" + b"t" * (length - 1)))

        assert (await client.answer())[0] == status

    scenario_with_client(run, story)


def test_a_target_without_end_is_refused_while_it_comes(run):
    async def story(port, client):
        client.send(b"GET /" + b"t" * (MAX_TARGET_BYTES + 100))

        assert await client.answer() == (414, "close", b"refused")
        assert await client.everything() == b""

    scenario_with_client(run, story)


@pytest.mark.parametrize(("count", "status"), [(MAX_FIELDS, 200), (MAX_FIELDS + 1, 431)])
def test_the_number_of_headers_is_limited(run, count, status):
    async def story(port, client):
        client.send(b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * (count - 1) + b"\r\n")

        assert (await client.answer())[0] == status

    scenario_with_client(run, story)


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(
            b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"y" * (MAX_HEAD_BYTES + 500), id="a value"
        ),
        pytest.param(
            b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"X" * (MAX_HEAD_BYTES + 500), id="a name"
        ),
    ],
)
@pytest.mark.parametrize("step", [1000, 1 << 20])
def test_a_header_without_end_is_refused_while_it_comes(run, endless, step):
    async def story(port, client):
        for start in range(0, len(endless), step):
            client.send(endless[start : start + step])
            await asyncio.sleep(0)

        assert await client.answer() == (431, "close", b"refused")
        assert await client.everything() == b""
        assert port.served == []

    scenario_with_client(run, story)


@pytest.mark.parametrize("step", [1000, 1 << 20])
@pytest.mark.parametrize(
    ("value_bytes", "status"), [(MAX_HEAD_BYTES - 100, 200), (MAX_HEAD_BYTES + 1, 431)]
)
def test_the_size_of_all_headers_is_limited_however_they_come(run, step, value_bytes, status):
    async def story(port, client):
        half = b"y" * (value_bytes // 2)
        head = b"GET /a HTTP/1.1\r\nHost: x\r\nA: %s\r\nB: %s\r\n\r\n" % (half, half)
        for start in range(0, len(head), step):
            client.send(head[start : start + step])
            await asyncio.sleep(0)

        assert (await client.answer())[0] == status

    scenario_with_client(run, story)


def test_the_body_before_a_head_does_not_count_as_part_of_it(run):
    async def story(port, client):
        second = request(b"/b")
        client.send(request(b"/a", b"x" * 60_000) + second[:20])
        assert (await client.answer())[0] == 200
        client.send(second[20:])

        assert await client.answer() == (200, "keep-alive", b"/b ")

    scenario_with_client(run, story)


# --- what cannot be read as a request -------------------------------------------------------------

CANARY = request(b"/canary", b"", b"GET")
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
TE = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def with_header(line, body=b"abcde"):
    return POST + line + b"\r\n\r\n" + body


REFUSED = {
    "CL.TE": with_header(b"Content-Length: 5\r\nTransfer-Encoding: chunked", LAST),
    "TE.CL": with_header(b"Transfer-Encoding: chunked\r\nContent-Length: 5", LAST),
    "two lengths": with_header(b"Content-Length: 5\r\nContent-Length: 6"),
    "the same length twice": with_header(b"Content-Length: 5\r\nContent-Length: 5"),
    "two codings": with_header(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", LAST),
    "chunked, then identity": with_header(
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", LAST
    ),
    "a space before the colon": with_header(b"Content-Length : 5"),
    "a tab before the colon": with_header(b"Content-Length\t: 5"),
    "a space before a coding's colon": with_header(b"Transfer-Encoding : chunked", LAST),
    "a header that begins with a space": with_header(b" Content-Length: 5"),
    "a null in a name": with_header(b"Content-Length\x00: 5"),
    "a folded header": with_header(b"X: a\r\n Content-Length: 5"),
    "a header folded with a tab": with_header(b"X: a\r\n\tb"),
    "a bare line feed between headers": with_header(b"X: a\nContent-Length: 5"),
    "a bare carriage return in a value": with_header(b"X: a\rContent-Length: 5"),
    "a null in a value": with_header(b"X: a\x00b"),
    "a delete in a value": with_header(b"X: \x7f"),
    "a header without a colon": with_header(b"X"),
    "a header without a name": with_header(b": v"),
    "a space in a name": with_header(b"X Y: 1"),
    "a bracket in a name": with_header(b"(X): 1"),
    "a byte beyond ascii in a name": with_header(b"X\xe9: 1"),
    "a head ended by bare line feeds": with_header(b"X: a\n\nGET /inner HTTP/1.1"),
    "a chunk ended by a bare line feed": TE + b"1\na\r\n" + LAST,
    "a chunk's data ended by a bare line feed": TE + b"1\r\na\n" + LAST,
    "an extension ended by a bare line feed": TE + b"1;\nx\r\na\r\n" + LAST,
    "a chunk with two carriage returns": TE + b"1\r\r\na\r\n" + LAST,
    "a chunk shorter than its size": TE + b"2\r\na\r\n" + LAST,
    "a chunk longer than its size": TE + b"1\r\nab\r\n" + LAST,
    "a last chunk ended by bare line feeds": TE + b"1\r\na\r\n0\n\n",
    "a trailer without a colon": TE + b"1\r\na\r\n0\r\nX y\r\n\r\n",
    "a length in a trailer": TE + b"1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n",
    "a request line ended by a bare line feed": b"GET /a HTTP/1.1\nHost: x\r\n\r\n",
    "a second host": with_header(b"host: y"),
    "another coding under the chunks": with_header(
        b"Transfer-Encoding: gzip, chunked", b"1\r\na\r\n" + LAST
    ),
    "a space before the method": b" GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method in lower case": b"get /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": b"FOO /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab in the request line": b"GET\t/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a null in the target": b"GET /a\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target that is no path": b"GET a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space after the version": b"GET /a HTTP/1.1 \r\n\r\n",
    "no host": b"GET /a HTTP/1.1\r\n\r\n",
    "a host that is none": b"GET /a HTTP/1.1\r\nHost: a b\r\n\r\n",
    "an old version": b"GET /a HTTP/0.9\r\nHost: x\r\n\r\n",
    "a new version": b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n",
    "no version": b"GET /a\r\n\r\n",
    "chunks in 1.0": b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST,
    "a target for the server as a whole": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target of another scheme": b"GET ftp://x/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a bare line feed before the request": b"\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a bare carriage return before it": b"\rGET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "many blank lines before it": b"\r\n" * 9 + b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown version": b"GET /a HTTP/1.2\r\n\r\n",
    "a version of three digits": b"GET /a HTTP/1.10\r\n\r\n",
    "a protocol in lower case": b"GET /a http/1.1\r\n\r\n",
    "another protocol": b"GET /a ICE/1.0\r\n\r\n",
    "http/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    **{
        f"the length {value!r}": with_header(b"Content-Length: " + value)
        for value in (
            b"+5", b"-5", b"0x5", b"5.0", b"5e0", b"", b" ", b"5 5", b"5, 5", b"5;", b'"5"', b"1_0",
            b"\xb2", b"5\x00", b"99999999999999999999", b"18446744073709551617", b"0" * 19 + b"5",
        )
    },
    **{
        f"the coding {value!r}": with_header(b"Transfer-Encoding: " + value, b"1\r\na\r\n" + LAST)
        for value in (
            b"identity", b"chunked, identity", b"chunked, chunked", b"gzip", b"xchunked", b"",
            b"chunked\x0b", b"\x0bchunked", b"chun ked", b"chunked,", b'"chunked"', b"chunked;q=1",
            b"chunkedx", b",chunked",
        )
    },
    **{
        f"the chunk size {size!r}": TE + size + b"\r\na\r\n" + LAST
        for size in (
            b"+1", b"-1", b"0x1", b"1 ", b" 1", b"\t1", b"1_0", b"g", b"", b"1;", b"1; x", b"1,",
            b"FFFFFFFFFFFFFFFFF", b"10000000000000001", b"1\x00", b"0" * 16 + b"1",
            b"1;" + b"x" * 256,
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("bytewise", [False, True])
def test_what_can_be_read_in_two_ways_is_refused_once_and_nothing_after_it_is_read(
    run, data, bytewise
):
    async def story(port, client):
        for piece in [data[n : n + 1] for n in range(len(data))] if bytewise else [data]:
            client.send(piece)
            await asyncio.sleep(0)
        client.send(CANARY)

        assert await client.answer() == (400, "close", b"refused")
        assert await client.everything() == b""
        assert port.served == []
        assert port.refused == [400]

    scenario_with_client(run, story)


SERVED = {
    "a coding in another case": (with_header(b"Transfer-Encoding: Chunked", LAST), b""),
    "spaces around a length": (with_header(b"Content-Length: \t5\t "), b"abcde"),
    "no space before a length": (with_header(b"Content-Length:5"), b"abcde"),
    "zeros before a length": (with_header(b"Content-Length: 005"), b"abcde"),
    "zeros before a chunk's size": (TE + b"0001\r\na\r\n" + LAST, b"a"),
    "a size in upper case": (TE + b"A\r\n0123456789\r\n" + LAST, b"0123456789"),
    "two zeros as the last chunk": (TE + b"1\r\na\r\n00\r\n\r\n", b"a"),
    "an extension": (TE + b'1;a;b="c;d"\r\na\r\n' + LAST, b"a"),
    "a trailer": (TE + b"1\r\na\r\n0\r\nX: y\r\n\r\n", b"a"),
    "empty lines before a request": (b"\r\n\r\nPOST /a HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    "a body after get": (b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    "no host in 1.0": (b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b""),
    "the whole address": (b"GET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n", b""),
}


@pytest.mark.parametrize(("data", "body"), SERVED.values(), ids=SERVED.keys())
def test_what_can_be_read_in_one_way_only_is_served_and_so_is_the_next_request(run, data, body):
    async def story(port, client):
        client.send(data + CANARY)

        assert (await client.answer())[0] == 200
        assert (await client.answer())[2] == b"/canary "
        assert [served[2] for served in port.served] == [body, b""]

    scenario_with_client(run, story)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET /a HTTP/1.0\r\n\r\n", id="1.0"),
    ],
)
def test_after_a_request_of_another_version_the_connection_ends(run, data):
    async def story(port, client):
        client.send(data + CANARY)

        assert (await client.answer())[:2] == (200, "close")
        assert await client.everything() == b""
        assert len(port.served) == 1

    scenario_with_client(run, story)


def test_a_length_in_a_name_of_another_spelling_is_no_length(run):
    async def story(port, client):
        client.send(with_header(b"Content_Length: 5") + CANARY)

        assert (await client.answer())[2] == b"/a "
        assert await client.answer() == (400, "close", b"refused")
        assert await client.everything() == b""

    scenario_with_client(run, story)


@pytest.mark.parametrize(
    ("garbage", "status"),
    [
        (b"\x00garbage", 400),
        (b"GET /" + b"t" * 9000, 414),
        (b"POST / HTTP/1.1\r\nHost: x\r\nExpect: x", 417),
    ],
)
def test_requests_before_garbage_are_answered_before_the_garbage_is(run, garbage, status):
    async def story(port, client):
        client.send(request(b"/later") + request(b"/b"))
        client.send(garbage + b"\r\nContent-Length: 3\r\n\r\n" + CANARY)
        await port.until(lambda: port.later)
        await port.settle()
        assert port.refused == []
        answer(port.later[b"/later"])

        assert await client.answer() == (200, "keep-alive", b"/later ")
        assert await client.answer() == (200, "keep-alive", b"/b ")
        assert await client.answer() == (status, "close", b"refused")
        assert await client.everything() == b""
        assert [served[1] for served in port.served] == [b"/later", b"/b"]

    scenario_with_client(run, story)


def test_garbage_behind_a_last_request_is_not_mentioned(run):
    async def story(port, client):
        client.send(request(b"/later", b"", b"POST", b"Connection: close") + b"\x00garbage")
        await port.until(lambda: port.later)
        answer(port.later[b"/later"])

        assert await client.answer() == (200, "close", b"/later ")
        assert await client.everything() == b""

    scenario_with_client(run, story)


def test_who_goes_on_sending_many_requests_can_still_read_the_last_answer(run):
    async def story(port, client):
        client.send(request(b"/later") + request(b"/b") * 20 + request(b"/c", b"x" * 90_000) * 60)
        await port.until(lambda: port.later)
        await port.settle()  # no more is read by now: enough requests wait
        port.later[b"/later"].keep_alive = False
        answer(port.later[b"/later"])
        async with asyncio.timeout(2.0):
            await client.writer.drain()

            assert await client.answer() == (200, "close", b"/later ")
            assert await client.everything() == b""

    scenario_with_client(run, story)


# --- answers in pieces ----------------------------------------------------------------------------

STREAM_HEAD = b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n"
BARE_HEAD = b"HTTP/1.1 200 X\r\nconnection: close\r\n\r\n"
STREAM = request(b"/later/stream")


def begin(exchange):
    if not exchange.takes_chunks:
        exchange.keep_alive = False
    exchange.begin(STREAM_HEAD if exchange.takes_chunks else BARE_HEAD)
    return exchange


async def begun(port, client, asked=STREAM):
    """The exchange of a stream that has begun, its head read by the client."""
    client.send(asked)
    await port.until(lambda: b"/later/stream" in port.later)
    exchange = begin(port.later[b"/later/stream"])
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert head == (STREAM_HEAD if exchange.takes_chunks else BARE_HEAD)
    return exchange


def test_pieces_arrive_as_they_are_written_each_as_a_chunk(run):
    async def story(port, client):
        exchange = await begun(port, client)
        for piece in (b"one", b"x" * 300):
            exchange.write(piece)
            framed = b"%x\r\n%s\r\n" % (len(piece), piece)
            assert await client.reader.readexactly(len(framed)) == framed
        exchange.write(b"")  # an empty chunk would be the end
        exchange.finish()
        assert await client.reader.readexactly(5) == b"0\r\n\r\n"
        assert port.gone == []

        client.send(request(b"/b"))
        assert await client.answer() == (200, "keep-alive", b"/b ")

    scenario_with_client(run, story)


def test_requests_behind_a_stream_wait_for_its_end(run):
    async def story(port, client):
        exchange = await begun(port, client, STREAM + request(b"/b"))
        exchange.write(b"1")
        await port.settle()
        assert len(port.served) == 1
        exchange.write(b"2")
        exchange.finish()

        assert await client.reader.readuntil(b"0\r\n\r\n") == b"1\r\n1\r\n1\r\n2\r\n0\r\n\r\n"
        assert (await client.answer())[2] == b"/b "

    scenario_with_client(run, story)


def test_a_client_of_http_1_0_gets_the_bare_pieces_and_then_the_end(run):
    async def story(port, client):
        asked = b"GET /later/stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        exchange = await begun(port, client, asked)
        exchange.write(b"one")
        exchange.write(b"two")
        exchange.finish()

        assert await client.everything() == b"onetwo"

    scenario_with_client(run, story)


def test_who_asks_for_the_head_of_a_stream_gets_that_alone(run):
    async def story(port, client):
        exchange = await begun(port, client, STREAM.replace(b"POST", b"HEAD", 1) + request(b"/b"))
        exchange.write(b"one")
        exchange.finish()

        assert (await client.answer())[2] == b"/b "

    scenario_with_client(run, story)


def test_a_stream_that_breaks_off_has_no_last_chunk(run):
    async def story(port, client):
        exchange = await begun(port, client, STREAM + request(b"/b"))
        exchange.write(b"one")
        exchange.cut()
        exchange.write(b"two")
        exchange.finish()

        assert await client.everything() == b"3\r\none\r\n"
        assert len(port.served) == 1
        assert port.gone == []

    scenario_with_client(run, story)


def test_a_stream_without_chunks_that_breaks_off_ends_in_a_reset(run):
    async def story(port, client):
        exchange = await begun(port, client, b"GET /later/stream HTTP/1.0\r\n\r\n")
        exchange.write(b"one")
        assert await client.reader.readexactly(3) == b"one"
        exchange.cut()

        with pytest.raises(ConnectionResetError):
            await client.everything()

    scenario_with_client(run, story)


def test_a_large_answer_arrives_whole_and_the_next_one_after_it(run):
    async def story(port, client):
        client.send(request(b"/later/large") + request(b"/small"))
        await port.until(lambda: port.later)
        body = bytes(range(256)) * 4000
        answer(port.later[b"/later/large"], body=body)

        assert await client.answer() == (200, "keep-alive", body)
        assert await client.answer() == (200, "keep-alive", b"/small ")

    scenario_with_client(run, story)


def test_a_client_that_leaves_in_the_middle_of_a_stream_is_noticed(run):
    async def story(port, client):
        exchange = await begun(port, client)
        client.writer.transport.abort()
        while not port.gone:
            exchange.write(b"piece")
            await asyncio.sleep(0.001)

        assert port.gone == [b"/later/stream"]
        await port.until(lambda: not port.connections)
        exchange.write(b"for nobody")
        exchange.finish()

    scenario_with_client(run, story)


def test_a_client_that_has_said_everything_gets_its_stream_to_the_end(run):
    async def story(port, client):
        exchange = await begun(port, client)
        client.writer.write_eof()
        await port.settle()
        exchange.write(b"one")
        await port.settle()
        exchange.finish()

        assert await client.everything() == b"3\r\none\r\n0\r\n\r\n"
        assert port.gone == []

    scenario_with_client(run, story)


def test_a_client_that_takes_no_pieces_is_cut_before_they_fill_the_memory(run):
    async def story(port, client):
        exchange = await begun(port, client)
        client.writer.transport.pause_reading()
        pieces = 0
        while not port.gone:
            exchange.write(bytes(1 << 20))
            pieces += 1
            await asyncio.sleep(0)
        most = MAX_UNSENT_BYTES + (1 << 24)  # and what the kernel keeps

        assert port.gone == [b"/later/stream"]
        assert MAX_UNSENT_BYTES < pieces << 20 <= most

    scenario_with_client(run, story)


def test_a_client_that_stops_taking_a_stream_is_cut_off_although_more_is_written(run):
    async def story(port, client):
        exchange = await begun(port, client)
        client.writer.transport.pause_reading()
        exchange.write(bytes(10_000_000))
        await port.settle()
        now = time.monotonic()
        port.connection.check_time(now, LIMITS)
        for seconds in (7.0, 14.0, 19.0):
            exchange.write(b"a little more")
            await port.settle()
            port.connection.check_time(now + seconds, LIMITS)
        await port.settle()
        assert port.gone == []
        port.connection.check_time(now + 21.0, LIMITS)
        await port.until(lambda: port.gone)

    scenario_with_client(run, story)


# --- clients that go away -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_client_that_goes_away_is_noticed_and_its_answer_is_for_nobody(run, how):
    async def story(port, client):
        client.send(request(b"/later/1") + request(b"/later/2"))
        await port.until(lambda: port.later)
        getattr(client.writer.transport, how)()
        await port.until(lambda: port.gone)

        assert port.gone == [b"/later/1"]
        assert port.connections == set()
        answer(port.later[b"/later/1"])
        assert len(port.served) == 1

    scenario_with_client(run, story)


@pytest.mark.parametrize("count", [1, 2, 17])
def test_a_client_that_has_said_everything_still_gets_all_its_answers(run, count):
    async def story(port, client):
        client.send(b"".join(request(b"/later/%d" % n) for n in range(count)))
        await port.until(lambda: port.later)
        client.writer.write_eof()
        await port.settle()
        assert port.gone == []
        for number in range(count):
            await port.until(lambda number=number: b"/later/%d" % number in port.later)
            answer(port.later[b"/later/%d" % number])
            await port.settle()  # what nobody waits for any more would be found by now

        everything = await client.everything()
        heads = everything.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"").split(b"\r\n\r\n")
        assert len(heads) == count + 1
        assert all(b"HTTP/1.1 200 X" in head for head in heads[:-1])
        assert everything.endswith(b"connection: close\r\n\r\n/later/%d " % (count - 1)) or (
            count > 16  # the end had not been read when the last head was written
        )
        await port.until(lambda: not port.connections)

    scenario_with_client(run, story)


def test_a_client_of_http_1_0_that_has_said_everything_gets_nothing_but_its_answer(run):
    async def story(port, client):
        client.send(b"GET /later HTTP/1.0\r\n\r\n")
        client.writer.write_eof()
        await port.until(lambda: port.later)
        await port.settle()
        answer(port.later[b"/later"])

        assert (await client.everything()).startswith(b"HTTP/1.1 200 X")

    scenario_with_client(run, story)


def test_a_client_that_ends_in_the_middle_of_its_second_request_gets_the_first_answer(run):
    async def story(port, client):
        client.send(request(b"/later") + request(b"/b", b"12345")[:-2])
        await port.until(lambda: port.later)
        client.writer.write_eof()
        await port.settle()
        answer(port.later[b"/later"])

        assert (await client.everything()).endswith(b"connection: close\r\n\r\n/later ")
        assert len(port.served) == 1

    scenario_with_client(run, story)


def test_garbage_and_then_the_end_is_answered_like_garbage(run):
    async def story(port, client):
        client.send(request(b"/later") + b"\x00garbage")
        await port.until(lambda: port.later)
        client.writer.write_eof()
        await port.settle()
        answer(port.later[b"/later"])

        assert (await client.everything()).endswith(b"\r\n\r\nrefused")
        assert port.refused == [400]

    scenario_with_client(run, story)


def test_a_client_that_goes_away_after_its_answer_is_not_missed(run):
    async def story(port, client):
        client.send(request(b"/later"))
        await port.until(lambda: port.later)
        answer(port.later[b"/later"])
        await client.answer()
        client.writer.close()
        await port.until(lambda: not port.connections)

        assert port.gone == []

    scenario_with_client(run, story)


def test_a_client_that_goes_away_in_the_middle_of_a_request_leaves_nothing(run):
    async def story(port, client):
        client.send(request(b"/a", b"12345")[:-2])
        await port.until(lambda: port.connections)
        client.writer.close()
        await port.until(lambda: not port.connections)

        assert port.served == []
        assert port.refused == []

    scenario_with_client(run, story)


# --- time -----------------------------------------------------------------------------------------


def test_a_client_that_sends_nothing_is_let_go_after_a_while(run):
    async def story(port, client):
        await port.until(lambda: port.connections)
        now = time.monotonic()
        port.connection.check_time(now + 74.0, LIMITS)
        client.send(request(b"/a"))
        assert (await client.answer())[0] == 200

        now = time.monotonic()
        port.connection.check_time(now + 74.0, LIMITS)
        await port.settle()
        assert port.connections
        port.connection.check_time(now + 76.0, LIMITS)

        assert await client.everything() == b""

    scenario_with_client(run, story)


def test_a_head_that_trickles_in_is_cut_off_however_often_a_byte_comes(run):
    async def story(port, client):
        client.send(b"GET /a")
        await port.until(lambda: port.connections)
        await asyncio.sleep(0.05)  # the first byte is in; from here on only more of the head comes
        began = time.monotonic()
        for _ in range(5):
            client.send(b"a")
            await asyncio.sleep(0.05)
        port.connection.check_time(began + 9.0, LIMITS)
        await port.settle()
        assert port.connections
        port.connection.check_time(began + 10.01, LIMITS)

        assert await client.everything() == b""
        assert port.served == []

    scenario_with_client(run, story)


def test_a_body_that_stops_coming_is_refused(run):
    async def story(port, client):
        client.send(
            b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
        await client.reader.readuntil(b"\r\n\r\n")
        now = time.monotonic()
        port.connection.check_time(now + 29.0, LIMITS)
        assert port.refused == []
        port.connection.check_time(now + 31.0, LIMITS)

        assert await client.answer() == (408, "close", b"refused")
        assert await client.everything() == b""

    scenario_with_client(run, story)


def test_a_request_that_is_being_served_has_no_time_limit_here(run):
    async def story(port, client):
        client.send(request(b"/later"))
        await port.until(lambda: port.later)
        port.connection.check_time(time.monotonic() + 1e6, LIMITS)
        answer(port.later[b"/later"])

        assert (await client.answer())[0] == 200

    scenario_with_client(run, story)


LARGE = b"x" * 30_000_000


def test_a_client_that_stops_reading_is_cut_off_and_one_that_reads_slowly_is_not(run):
    async def story(port, client):
        client.send(request(b"/later"))
        await port.until(lambda: port.later)
        client.writer.transport.pause_reading()
        answer(port.later[b"/later"], 200, LARGE)
        connection = port.connection
        await asyncio.sleep(0.1)  # until all buffers between the two are full
        now = time.monotonic()
        connection.check_time(now, LIMITS)
        connection.check_time(now + 19.0, LIMITS)
        client.writer.transport.resume_reading()
        got = len(await client.reader.readexactly(5_000_000))
        client.writer.transport.pause_reading()
        await asyncio.sleep(0.1)
        connection.check_time(now + 21.0, LIMITS)  # it took bytes meanwhile
        connection.check_time(now + 40.0, LIMITS)
        await port.settle()
        assert port.connections
        connection.check_time(now + 42.0, LIMITS)
        client.writer.transport.resume_reading()
        with suppress(ConnectionResetError):
            while piece := await client.reader.read(1 << 20):
                got += len(piece)
        assert got < len(LARGE)
        await port.until(lambda: not port.connections)

    async def scenario():
        async with Port() as port:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, port.address)
            client = Client(port)
            client.reader, client.writer = await asyncio.open_connection(sock=sock, limit=1 << 16)
            await story(port, client)
            client.writer.transport.abort()

    run(scenario)


def test_a_client_that_takes_no_answers_is_not_served_further_until_it_does(run):
    async def story(port, client):
        client.send(b"".join(request(b"/later/%d" % n) for n in range(4)))
        await port.until(lambda: port.later)
        client.writer.transport.pause_reading()
        answer(port.later[b"/later/0"], 200, LARGE)
        await port.settle()
        if b"/later/1" in port.later:  # it had begun before the loop saw that nothing leaves
            answer(port.later[b"/later/1"])
        await port.settle()
        client.send(request(b"/later/4"))
        await port.settle()
        assert b"/later/2" not in port.later

        client.writer.transport.resume_reading()
        assert len((await client.answer())[2]) == len(LARGE)
        for number in range(1, 5):
            await port.until(lambda number=number: b"/later/%d" % number in port.later)
            answer(port.later[b"/later/%d" % number])
            assert (await client.answer())[2] == b"/later/%d " % number

    scenario_with_client(run, story)


def test_no_more_is_read_from_a_client_than_is_worth_keeping(run):
    async def story(port, client):
        client.send(request(b"/later") + request(b"/b", b"x" * 90_000) * 300)
        await port.until(lambda: port.later)
        await asyncio.sleep(0.2)  # ample time to read all of it, which nobody must
        assert client.writer.transport.get_write_buffer_size() > 10_000_000

        answer(port.later[b"/later"])
        for _ in range(301):
            assert (await client.answer())[0] == 200

    scenario_with_client(run, story)


# --- draining -------------------------------------------------------------------------------------


def test_a_draining_connection_without_a_request_may_bring_one_more_and_is_then_let_go(run):
    async def story(port, client):
        client.send(request(b"/a"))
        await client.answer()
        port.connection.drain()
        port.connection.let_go(time.monotonic(), 5.0)  # it was not quiet for so long
        client.send(request(b"/b"))

        assert (await client.answer())[1] == "close"
        assert await client.everything() == b""

    scenario_with_client(run, story)


def test_a_draining_connection_that_stays_quiet_is_let_go(run):
    async def story(port, client):
        client.send(request(b"/a"))
        await client.answer()
        port.connection.drain()
        port.connection.let_go(time.monotonic() + 5.0, 5.0)

        assert await client.everything() == b""

    scenario_with_client(run, story)


def test_a_draining_connection_is_not_let_go_while_a_request_waits_to_be_read(run):
    async def story(port, client):
        client.send(request(b"/a"))
        await client.answer()
        port.connection.drain()
        os.write(client.writer.get_extra_info("socket").fileno(), request(b"/b"))
        port.connection.let_go(time.monotonic() + 5.0, 5.0)

        assert (await client.answer())[2] == b"/b "

    scenario_with_client(run, story)


def test_a_draining_connection_finishes_what_it_has_read_and_says_when_it_ends(run):
    async def story(port, client):
        client.send(request(b"/later") + request(b"/b"))
        await port.until(lambda: port.later)
        port.connection.drain()
        answer(port.later[b"/later"])

        assert await client.answer() == (200, "keep-alive", b"/later ")
        assert await client.answer() == (200, "close", b"/b ")
        assert await client.everything() == b""

    scenario_with_client(run, story)


@pytest.mark.parametrize("sent", [b"/later", b"half"])
def test_what_is_not_answered_when_the_time_is_over_is_refused_in_words(run, sent):
    async def story(port, client):
        data = request(b"/later", b"12345", b"POST")
        client.send(data if sent == b"/later" else data[:-2])
        await port.until(lambda: port.later if sent == b"/later" else port.connections)
        await port.settle()  # half of it is read
        port.connection.drain()
        port.connection.give_up()

        status, connection, _ = await client.answer()
        assert (status, connection) == (503, "close")
        assert await client.everything() == b""

    scenario_with_client(run, story)


def test_a_draining_connection_lets_a_request_come_that_has_begun_to(run):
    async def story(port, client):
        data = request(b"/a", b"12345", b"POST", b"Expect: 100-continue")
        client.send(data[:-5])
        await client.reader.readuntil(b"\r\n\r\n")
        port.connection.drain()
        client.send(data[-5:])

        assert await client.answer() == (200, "close", b"/a 12345")
        assert await client.everything() == b""

    scenario_with_client(run, story)
