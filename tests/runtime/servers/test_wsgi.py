"""A WSGI application in a thread: it starts, answers, and ends without a trace."""

import json
import os
import queue
import resource
import socket
import threading
import time
from pathlib import Path

import pytest

from marserve.servers.wsgi import WsgiServer, answering

LARGE_BYTES = 16_000_000
"""More than two sockets can hold."""


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def listening():
    return socket.create_server(("127.0.0.1", 0))


def ask(address, request=b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"):
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def descriptors():
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def is_closed_within(address, timeout_s):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            socket.create_connection(address, timeout=1).close()
        except ConnectionRefusedError:
            return True
        except OSError:  # caught in the very moment of closing
            continue
    return False


@pytest.fixture
def serve():
    servers = []

    def start(app, **options):
        sock = listening()
        server = WsgiServer(app, sock, 2, "test", **options)
        server.start()
        servers.append(server)
        return server, sock.getsockname()

    yield start
    for server in servers:
        server.stop(5)


def test_a_stopped_server_leaves_no_port_descriptor_or_thread():
    before = descriptors()
    sock = listening()
    server = WsgiServer(hello, sock, 2, "brief", None)
    address = sock.getsockname()
    server.start()
    idle = socket.create_connection(address, timeout=10)
    assert ask(address).endswith(b"hello")
    server.stop(5)
    assert idle.recv(1) == b""
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=1)
    assert descriptors() == before
    assert "brief-http" not in [thread.name for thread in threading.enumerate()]
    server.stop(5)


def test_a_server_that_never_started_gives_its_port_back():
    sock = listening()
    WsgiServer(hello, sock, 2, "never", None).stop(5)
    assert sock.fileno() == -1


def test_one_server_stops_without_the_other(serve):
    first, _ = serve(hello)
    _, address = serve(hello)
    first.stop(5)
    assert ask(address).endswith(b"hello")


def test_stop_lets_a_running_request_end(serve):
    entered, go_on = threading.Event(), threading.Event()

    def slow(environ, start_response):
        entered.set()
        assert go_on.wait(10)
        return hello(environ, start_response)

    server, address = serve(slow)
    answers = queue.Queue()
    client = threading.Thread(target=lambda: answers.put(ask(address)))
    client.start()
    assert entered.wait(10)
    stopper = threading.Thread(target=server.stop, args=(10,))
    stopper.start()
    assert is_closed_within(address, 10)  # the port closes first
    go_on.set()
    stopper.join(10)
    client.join(10)
    assert answers.get_nowait().endswith(b"hello")


def test_stop_does_not_wait_longer_than_it_may(serve):
    entered, go_on = threading.Event(), threading.Event()

    def stuck(environ, start_response):
        entered.set()
        assert go_on.wait(20)
        return hello(environ, start_response)

    server, address = serve(stuck)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert entered.wait(10)
        started = time.monotonic()
        server.stop(0.2)
        assert time.monotonic() - started < 3
        assert connection.recv(1) == b""
    go_on.set()


def large(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"x" * LARGE_BYTES]


def test_stop_lets_a_slow_client_take_its_answer(serve):
    server, address = serve(large)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        begun = connection.recv(1)
        stopper = threading.Thread(target=server.stop, args=(10,))
        stopper.start()
        assert is_closed_within(address, 10)
        answer = begun + b"".join(iter(lambda: connection.recv(65536), b""))
        stopper.join(10)
    assert answer.endswith(b"\r\n\r\n" + b"x" * LARGE_BYTES)


def test_stop_leaves_nothing_of_a_client_that_never_reads():
    before = descriptors()
    sock = listening()
    server = WsgiServer(large, sock, 2, "test", None)
    address = sock.getsockname()
    server.start()
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.recv(1)
        server.stop(0.1)
    assert descriptors() == before


def test_a_server_works_with_descriptors_beyond_select(serve):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    spare = []
    try:
        while not spare or spare[-1] < 1100:
            spare.append(os.open("/dev/null", os.O_RDONLY))
        _, address = serve(hello)
        assert ask(address).endswith(b"hello")
    finally:
        for descriptor in spare:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_application_that_raises_is_an_answer_with_a_number(serve, caplog):
    def broken(environ, start_response):
        start_response("200 OK", [])
        raise ZeroDivisionError("secret")

    events = queue.Queue()
    _, address = serve(answering(broken, "test", events.put))
    head, _, body = ask(address).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert json.loads(body)["type"] == "InternalServerException"
    assert b"secret" not in body
    assert "secret" in caplog.text
    assert events.get(timeout=5).status == 500


def test_an_answer_goes_out_even_when_nobody_can_be_told(serve):
    def closed(event):
        raise RuntimeError("Event loop is closed")

    _, address = serve(answering(hello, "test", closed), publish=closed)
    assert ask(address).endswith(b"hello")
    assert b'"code": 400' in ask(address, b"garbage\r\n\r\n")


def test_what_waitress_refuses_is_published_too(serve):
    events = queue.Queue()
    _, address = serve(answering(hello, "test", events.put), publish=events.put)
    ask(address, b"PUT /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
    event = events.get(timeout=5)
    assert (event.port, event.method, event.path, event.status) == ("test", "PUT", "/x", 413)
    assert events.empty()


def test_a_refused_client_that_goes_on_sending_still_gets_its_answer(serve):
    _, address = serve(hello)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
        for _ in range(32):
            connection.sendall(b"x" * 65536)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code": 413' in answer


def test_a_refused_client_cannot_go_on_for_ever(serve):
    _, address = serve(hello)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall(b"x" * 90_000_000)


def test_a_request_on_ipv6_names_its_client_in_brackets():
    try:
        sock = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        sock = socket.create_server(("127.0.0.1", 0))
    is_v6 = sock.family == socket.AF_INET6
    events = queue.Queue()
    server = WsgiServer(answering(hello, "test", events.put), sock, 1, "test", None)
    address = sock.getsockname()[:2]
    server.start()
    try:
        ask(address)
        assert events.get(timeout=5).client.startswith("[::1]:" if is_v6 else "127.0.0.1:")
    finally:
        server.stop(5)
