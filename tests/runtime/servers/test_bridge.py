"""A WSGI application behind the event loop's connections."""

import asyncio
import json
import socket
import threading
from contextlib import asynccontextmanager

import pytest
import uvloop
from prometheus_client import CollectorRegistry, Counter

from marserve.servers import bridge as bridge_module
from marserve.servers.bridge import WsgiBridge
from marserve.servers.environ import environ
from marserve.servers.exchange import Exchange
from marserve.servers.http import HttpServer
from marserve.servers.metrics import create_app
from marserve.servers.request_head import RequestHead
from marserve.servers.shared import SharedFront


class Connection:
    client = "::1:5"
    is_secure = True


def run(scenario):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(scenario(), 20.0))


@asynccontextmanager
async def serving(app, threads=2, max_body_bytes=100):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    events = []
    bridge = WsgiBridge(app, threads, "management", events.append, max_body_bytes)
    server = HttpServer(sock, 1000, bridge.on_request, bridge.on_refused)
    address = sock.getsockname()
    await server.start()
    try:
        yield address, events, bridge
    finally:
        await server.stop(0.0)
        bridge.close()
        await asyncio.sleep(0.01)


async def exchanged(address, request):
    """Everything that comes back until the server closes."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.transport.abort()


def close(line, body=b"", *more):
    lines = [line, b"Connection: close", b"Content-Length: %d" % len(body), *more]
    return b"\r\n".join((*lines, b"", body))


def telling(environ, start_response):
    """Answers what it was asked."""
    body = environ["wsgi.input"].read()
    told = {k: environ[k] for k in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING")}
    told |= {"body": body.decode(), "type": environ.get("CONTENT_TYPE"), "x": environ.get("HTTP_X")}
    start_response("201 Created", [("Content-Type", "application/json"), ("X-Own", "y")])
    return [json.dumps(told).encode()]


def test_an_application_is_asked_and_answers():
    async def scenario():
        async with serving(telling) as (address, events, _):
            asked = close(
                b"PUT /models/a%20b/%C3%A9?x=%20 HTTP/1.1\r\nHost: x",
                b"body",
                b"Content-Type: text/plain",
                b"X: 1",
                b"x: 2",
                b"X_: no",
            )
            head, _, body = (await exchanged(address, asked)).partition(b"\r\n\r\n")

            assert head.decode().split("\r\n") == [
                "HTTP/1.1 201 Created",
                "Content-Type: application/json",
                "X-Own: y",
                f"Content-Length: {len(body)}",
                "connection: close",
            ]
            assert json.loads(body) == {
                "REQUEST_METHOD": "PUT",
                "PATH_INFO": "/models/a b/\u00c3\u00a9",  # bytes as Latin-1, as WSGI wants them
                "QUERY_STRING": "x=%20",
                "body": "body",
                "type": "text/plain",
                "x": "1, 2",
            }
            assert events == []  # applications tell of their own answers

    run(scenario)


def test_the_environment_says_where_a_request_came_from():
    exchange = Exchange(Connection(), RequestHead(b"GET", b"http://host/a?b#c"))
    exchange.head.headers = [
        (b"Host", b"h"), (b"Transfer-Encoding", b"chunked"), (b"X-Y", b"1"), (b"X_Y", b"2"),
        (b"Content-Length", b"9"),
    ]  # fmt: skip
    exchange.body = b"12345"
    made = environ(exchange)

    assert (made["PATH_INFO"], made["QUERY_STRING"], made["REQUEST_URI"]) == ("/a", "b", "/a?b#c")
    assert (made["REMOTE_ADDR"], made["REMOTE_PORT"]) == ("::1", "5")
    assert made["wsgi.url_scheme"] == "https"
    assert made["CONTENT_LENGTH"] == "5"
    assert {key for key in made if key.startswith("HTTP_")} == {"HTTP_HOST", "HTTP_X_Y"}
    assert made["HTTP_X_Y"] == "1"


def test_head_gets_no_body_and_an_error_ends_the_connection():
    def app(environ, start_response):
        start_response("404 Not Found", [("Content-Length", "3")])
        return [b"no."]

    async def scenario():
        async with serving(app) as (address, _, _):
            asked = b"HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n"
            assert (await exchanged(address, asked)).endswith(b"connection: close\r\n\r\n")

    run(scenario)


def test_an_application_that_breaks_costs_its_client_an_error_and_nobody_else_anything(caplog):
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/break":
            raise KeyError("inner workings")
        return telling(environ, start_response)

    async def scenario():
        async with serving(app, threads=1) as (address, _, _):
            for _ in range(3):
                broken = await exchanged(address, close(b"GET /break HTTP/1.1\r\nHost: x"))
                assert broken.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
                assert b"inner workings" not in broken
            fine = await exchanged(address, close(b"GET /fine HTTP/1.1\r\nHost: x"))
            assert fine.startswith(b"HTTP/1.1 201 ")

    run(scenario)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (close(b"POST /a HTTP/1.1\r\nHost: x", b"x" * 101), 413),
        (close(b"POST /a HTTP/1.1\r\nHost: x", b"x" * 1001), 413),
        (b"garbage\r\n\r\n", 400),
    ],
)
def test_what_the_application_must_not_see_is_refused_and_told_of(asked, status):
    async def scenario():
        async with serving(telling) as (address, events, _):
            assert (await exchanged(address, asked)).startswith(b"HTTP/1.1 %d " % status)
            assert [(event.port, event.status) for event in events] == [("management", status)]

    run(scenario)


def test_threads_and_waiting_requests_are_bounded(monkeypatch):
    monkeypatch.setattr(bridge_module, "MAX_WAITING", 3)
    go, at_once, most = threading.Event(), [0], [0]

    def app(environ, start_response):
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        assert go.wait(10.0)
        at_once[0] -= 1
        start_response("200 OK", [])
        return [b"ok"]

    async def scenario():
        async with serving(app, threads=2) as (address, events, _):
            asked = [
                asyncio.ensure_future(exchanged(address, close(b"GET / HTTP/1.1\r\nHost: x")))
                for _ in range(7)
            ]
            done, waiting = await asyncio.wait(asked, timeout=0.5)
            assert len(done) == 2
            assert all(b"503 Service Unavailable" in task.result() for task in done)
            assert all(b"Retry-After: 1\r\n" in task.result() for task in done)
            go.set()
            answers = await asyncio.gather(*waiting)
            assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
            assert most == [2]
            assert len(events) == 2

    run(scenario)


def test_the_metrics_application_shares_a_port_with_another_front():
    class Front:
        def on_request(self, exchange):
            exchange.respond(b"HTTP/1.1 200 X\r\ncontent-length: 5\r\n\r\n", b"other")

        on_refused = None

    async def scenario():
        registry = CollectorRegistry()
        Counter("seen", "how often", registry=registry).inc(3)
        events = []
        app = create_app(registry, events.append, "1.2.3")
        async with serving(app) as (_, _, metrics):
            shared = SharedFront(Front(), metrics=metrics)
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
            server = HttpServer(sock, 1000, shared.on_request, metrics.on_refused)
            address = sock.getsockname()
            await server.start()
            scraped = await exchanged(address, close(b"GET /metrics HTTP/1.1\r\nHost: x"))
            other = await exchanged(address, close(b"GET /metricsx HTTP/1.1\r\nHost: x"))
            await server.stop(0.0)

        assert b"seen_total 3.0\n" in scraped
        assert scraped.lower().count(b"content-length: ") == 1
        assert other.endswith(b"other")
        [event] = events
        assert (event.port, event.path, event.status) == ("metrics", "/metrics", 200)

    run(scenario)


def test_threads_end_when_the_port_does():
    async def scenario():
        before = threading.active_count()
        async with serving(telling) as (address, _, _):
            await exchanged(address, close(b"GET / HTTP/1.1\r\nHost: x"))
            assert threading.active_count() == before + 1
        while threading.active_count() > before:
            await asyncio.sleep(0.01)

    run(scenario)
