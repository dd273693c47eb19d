"""A listening port: it accepts, looks after slow clients by itself, and ends in order."""

import asyncio
import socket
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop

from marserve.servers.exchange import Timeouts
from marserve.servers.http import HttpServer

REQUEST = b"GET /a HTTP/1.1\r\n\r\n"
IMPATIENT = Timeouts(idle_s=0.2, head_s=0.2, body_s=0.2, write_s=0.2)


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def run(request):
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield lambda scenario: runner.run(asyncio.wait_for(scenario(), 20.0))


def answer(exchange, status=200, body=b"ok"):
    connection = b"keep-alive" if exchange.keep_alive else b"close"
    exchange.respond(
        b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: %s\r\n\r\n"
        % (status, len(body), connection),
        body,
    )


class Front:
    """Answers at once, but for `/later`, which it keeps."""

    def __init__(self):
        self.kept = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()

    def on_request(self, exchange):
        if exchange.target == b"/later":
            exchange.on_gone = self.gone.set
            self.kept.set_result(exchange)
        else:
            answer(exchange)

    def on_refused(self, exchange, status):
        answer(exchange, status, b"refused")


@asynccontextmanager
async def serving(timeouts=None, max_body_bytes=1000):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    front = Front()
    more = {} if timeouts is None else {"timeouts": timeouts}
    server = HttpServer(sock, max_body_bytes, front.on_request, front.on_refused, **more)
    address = sock.getsockname()
    await server.start()
    try:
        yield server, front, address
    finally:
        await server.stop(0.0)
        await asyncio.sleep(0.01)  # the loop closes what was cut in its next turn


@asynccontextmanager
async def connected(address):
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def status_and_body(answered):
    """Of one whole answer; empty for none."""
    head, _, body = answered.partition(b"\r\n\r\n")
    return (int(head.split()[1]), body) if head else None


def test_a_port_serves_several_clients(run):
    async def scenario():
        async with (
            serving() as (_, _, address),
            connected(address) as (one, to_one),
            connected(address) as (two, to_two),
        ):
            for writer in (to_one, to_two):
                writer.write(REQUEST)
            for reader in (one, two):
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")

    run(scenario)


def test_the_limit_of_a_body_is_that_of_the_server(run):
    async def scenario():
        async with serving(max_body_bytes=4) as (_, _, address):
            for length, status in ((4, 200), (5, 413)):
                async with connected(address) as (reader, writer):
                    writer.write(b"POST /a HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % length)
                    writer.write(b"x" * length)
                    assert status_and_body(await reader.read())[0] == status

    run(scenario)


def test_slow_clients_are_found_without_being_asked_for(run):
    async def scenario():
        async with (
            serving(IMPATIENT) as (_, front, address),
            connected(address) as (silent, _),
            connected(address) as (idle, to_idle),
            connected(address) as (slow_head, to_slow_head),
            connected(address) as (slow_body, to_slow_body),
            connected(address) as (served, to_served),
        ):
            to_idle.write(REQUEST)
            to_slow_head.write(REQUEST[:5])
            to_slow_body.write(b"POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\n123")
            to_served.write(REQUEST.replace(b"/a", b"/later"))
            await front.kept
            ends = [await reader.read() for reader in (silent, idle, slow_head, slow_body)]

            assert [status_and_body(end) for end in ends] == [
                None,
                (200, b"ok"),
                None,
                (408, b"refused"),
            ]
            answer(front.kept.result())  # who is being served is not slow
            assert (await served.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")

    run(scenario)


def test_a_stopped_port_takes_no_connection(run):
    async def scenario():
        async with serving() as (server, _, address):
            await server.stop(1.0)
            await asyncio.sleep(0.01)

            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*address)

    run(scenario)


def test_stopping_lets_idle_clients_go_at_once_and_others_have_their_answer(run):
    async def scenario():
        async with (
            serving() as (server, front, address),
            connected(address) as (idle, to_idle),
            connected(address) as (busy, to_busy),
        ):
            to_idle.write(REQUEST)
            await idle.readuntil(b"ok")
            to_busy.write(REQUEST.replace(b"/a", b"/later"))
            exchange = await front.kept
            stopping = asyncio.ensure_future(server.stop(10.0))
            assert await idle.read() == b""
            assert not stopping.done()

            answer(exchange)
            answered = await busy.read()
            to_busy.close()
            async with asyncio.timeout(2.0):
                await stopping

            assert status_and_body(answered) == (200, b"ok")
            assert b"connection: close" in answered
            assert not front.gone.is_set()

    run(scenario)


def test_what_is_not_done_when_the_grace_is_over_is_cut(run):
    async def scenario():
        async with serving() as (server, front, address), connected(address) as (reader, writer):
            writer.write(REQUEST.replace(b"/a", b"/later"))
            exchange = await front.kept
            await server.stop(0.05)
            async with asyncio.timeout(2.0):
                await front.gone.wait()
            answer(exchange)

            with suppress(ConnectionResetError):  # it may be seen to be cut, or to have ended
                assert await reader.read() == b""

    run(scenario)


def test_a_port_that_never_started_can_be_stopped(run):
    async def scenario():
        with socket.socket() as sock:
            front = Front()
            await HttpServer(sock, 1, front.on_request, front.on_refused).stop(0.0)

    run(scenario)
