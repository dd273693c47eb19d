"""A listening port: it accepts, looks after slow clients by itself, and ends in order."""

import asyncio
import json
import socket
import ssl
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from marserve.servers.exchange import Timeouts
from marserve.servers.http import HttpServer
from marserve.servers.room import Room

REQUEST = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
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
async def serving(timeouts=None, max_body_bytes=1000, tls=None, **more):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    front = Front()
    if timeouts is not None:
        more["timeouts"] = timeouts
    server = HttpServer(sock, max_body_bytes, front.on_request, front.on_refused, tls=tls, **more)
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
            to_slow_body.write(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n123")
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


def test_stopping_lets_idle_clients_go_and_others_have_their_answer(run):
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


def test_what_is_not_done_when_the_grace_is_over_is_refused_and_not_reset(run):
    async def scenario():
        async with serving() as (server, front, address), connected(address) as (reader, writer):
            writer.write(REQUEST.replace(b"/a", b"/later"))
            exchange = await front.kept
            await server.stop(0.05)
            async with asyncio.timeout(2.0):
                await front.gone.wait()
            answer(exchange)

            assert status_and_body(await reader.read()) == (503, b"refused")

    run(scenario)


def test_a_port_that_never_started_can_be_stopped(run):
    async def scenario():
        with socket.socket() as sock:
            front = Front()
            await HttpServer(sock, 1, front.on_request, front.on_refused).stop(0.0)

    run(scenario)


# --- TLS and unix sockets -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """What a server needs for `localhost`, and what a client needs to believe it."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "both.pem"
    pem.write_bytes(
        certificate.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=pem)


def test_a_port_speaks_https(run, tls):
    server_side, client_side = tls

    async def scenario():
        async with serving(tls=server_side) as (server, front, address):
            reader, writer = await asyncio.open_connection(
                *address, ssl=client_side, server_hostname="localhost"
            )
            for _ in range(2):
                writer.write(REQUEST)
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
            writer.write(REQUEST.replace(b"/a", b"/later"))
            exchange = await front.kept
            assert exchange.is_secure
            exchange.begin(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n")
            exchange.write(b"x" * 1_000_000)
            exchange.keep_alive = False
            exchange.finish()
            answered = await reader.read()
            assert answered.endswith(b"x\r\n0\r\n\r\n")
            assert len(answered) > 1_000_000
            writer.close()
            async with asyncio.timeout(5.0):
                await server.stop(4.0)

    run(scenario)


def test_who_speaks_plain_http_to_an_https_port_is_told(run, tls):
    async def scenario():
        async with (
            serving(tls=tls[0]) as (_, front, address),
            connected(address) as (reader, writer),
        ):
            writer.write(REQUEST.replace(b"/a", b"/later") + REQUEST)

            assert status_and_body(await reader.read()) == (
                403,
                b'{\n  "status": "This MarServe instance only accepts HTTPS requests"\n}\n',
            )
            assert not front.kept.done()

    run(scenario)


@pytest.mark.parametrize(
    "said",
    [b"\x16\x03\x01\x00\x05hello", b"\x16", b"", b"\x80rest of an ancient handshake\r\n\r\n"],
)
def test_a_handshake_that_fails_or_never_ends_costs_nobody_else_anything(run, tls, said):
    server_side, client_side = tls

    async def scenario():
        async with (
            serving(IMPATIENT, tls=server_side) as (_, front, address),
            connected(address) as (reader, writer),
        ):
            writer.write(said)
            other, to_other = await asyncio.open_connection(
                *address, ssl=client_side, server_hostname="localhost"
            )
            to_other.write(REQUEST)
            assert await other.readuntil(b"ok")
            with suppress(ConnectionResetError):
                await reader.read()  # the end comes by itself
            assert not front.kept.done()
            to_other.transport.abort()

    run(scenario)


def test_an_https_port_that_is_stopped_lets_go_of_who_has_said_nothing_yet(run, tls):
    async def scenario():
        async with (
            serving(tls=tls[0]) as (server, _, address),
            connected(address) as (silent, _),
            connected(address) as (begun, to_begun),
        ):
            to_begun.write(b"\x16\x03\x01\x00\x80")
            await asyncio.sleep(0.02)
            await server.stop(0.0)
            async with asyncio.timeout(2.0):
                for reader in (silent, begun):
                    with suppress(ConnectionResetError):
                        assert await reader.read() == b""
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*address)

    run(scenario)


def test_a_port_can_be_a_unix_socket(run, tmp_path):
    path = tmp_path / "port"

    async def scenario():
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        front = Front()
        server = HttpServer(sock, 1000, front.on_request, front.on_refused)
        await server.start()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(REQUEST)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        writer.write(REQUEST.replace(b"/a", b"/later"))
        exchange = await front.kept
        assert exchange.client == "-"
        assert not exchange.is_secure
        writer.close()
        async with asyncio.timeout(2.0):
            await front.gone.wait()
        await server.stop(0.0)
        path.unlink(missing_ok=True)

    run(scenario)


# --- room (F24, F27) ------------------------------------------------------------------------------


def test_when_all_places_are_taken_the_idle_make_room_and_then_nobody_does(run):
    async def scenario():
        room = Room(2)
        async with (
            serving(room=room) as (_, front, address),
            connected(address) as (idle, to_idle),
            connected(address) as (_, to_busy),
        ):
            to_idle.write(REQUEST)
            await idle.readuntil(b"ok")
            to_busy.write(REQUEST.replace(b"/a", b"/later"))
            kept = await front.kept
            async with connected(address) as (third, to_third):
                assert await idle.read() == b""  # it made room
                to_third.write(b"GET /a HTTP/1.1\r\n")  # it has begun something
                while len(room) != 2:
                    await asyncio.sleep(0)
                await asyncio.sleep(0.05)
                async with connected(address) as (fourth, to_fourth):
                    to_fourth.write(REQUEST)
                    told = await fourth.read()
                assert told.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
                assert json.loads(told.partition(b"\r\n\r\n")[2])["code"] == 503
                to_third.write(b"Host: x\r\n\r\n")
                assert (await third.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
            answer(kept)
            assert room.turned_away == 1

    run(scenario)
