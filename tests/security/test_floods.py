"""Too much of everything (SEC-13, 14, 16, 21, 22) costs its sender an error, and the server neither
memory nor its time for others. `benchmarks/reliability/http_floods.py` sends more."""

import contextlib
import gzip
import json
import time

import psutil
import pytest

from marserve.errors import InvalidInput
from marserve.protocols import torchserve
from marserve.protocols.grpc_messages import Messages
from marserve.protocols.grpc_status import CallRefused
from marserve.servers.chunked_body import MAX_CHUNKS

HOST = b"Host: x\r\n"
HEAD = b"POST /predictions/echo HTTP/1.1\r\n" + HOST
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
PORTS = ("inference", "management", "metrics")
FORM = b"multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="%d"\r\n\r\nx\r\n'


def status_of(server, data, port="inference"):
    """The one status that comes back before the connection ends; 0: none does."""
    with server.raw(port) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)  # it does not have to read all of it
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                got += piece
    assert got.count(b"HTTP/1.1 ") <= 1, got
    return int(got[9:12]) if got else 0


def rss_kib(server):
    return psutil.Process(server.process.pid).memory_info().rss // 1024


def test_more_chunks_than_a_body_may_have_are_refused_and_cost_no_memory(open_server):
    """SEC-14, small: 5 of the 100 requests."""
    flood = CHUNKED + b"1\r\nx\r\n" * (MAX_CHUNKS + 5000)
    for _ in range(3):
        assert status_of(open_server, flood) == 400
    before = rss_kib(open_server)
    for _ in range(5):
        assert status_of(open_server, flood) == 400
    assert rss_kib(open_server) - before < 1024


def test_as_many_chunks_as_a_body_may_have_are_served(open_server):
    body = b"1\r\nx\r\n" * MAX_CHUNKS + b"0\r\n\r\n"
    head = CHUNKED.replace(HOST, HOST + b"Connection: close\r\n")

    assert status_of(open_server, head + body) == 200


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * 9000, 414),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 100 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 40_000, 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"y" * 40_000, 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 10_000, 431),
        (b"GET / HTTP/1.1\r\n" + HOST + (b"X: " + b"y" * 5000 + b"\r\n") * 8 + b"\r\n", 431),
        (b"\r\n" * 100_000, 400),
        (b"A" * 100_000, 414),
        (HEAD + b"Content-Length: 99999999999\r\n\r\n" + b"x" * 100_000, 413),
        (CHUNKED + b"FFFFFFFFFFFFFFFF\r\nx", 413),
        (CHUNKED + b"1;" + b"x" * 100_000, 400),
        (CHUNKED + b"0" * 100_000, 400),
        (CHUNKED + b"0\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (CHUNKED + b"0\r\nX: " + b"y" * 100_000, 400),
    ],
    ids=[
        "a line without end", "a long line", "101 fields", "a value without end",
        "a name without end",
        "fields without end", "large fields", "blank lines without end", "a method without end",
        "a body announced too large", "a chunk announced too large", "an extension without end",
        "a size without end", "101 trailers", "a trailer without end",
    ],
)  # fmt: skip
def test_every_part_of_a_request_is_limited_on_every_port(open_server, port, data, status):
    """SEC-16."""
    got = status_of(open_server, data, port)

    assert got in (status, 400) if data[:4] == b"AAAA" else got == status


@pytest.mark.parametrize(
    "bomb",
    [
        b"[" * 500_000,
        b'{"a":' * 100_000,
        b"[" * 90_000 + b"]" * 90_000,
        b'{"url": ' + b"9" * 500_000 + b"}",
        b'{"a": 1, "a": 2}',
        b'{"url": NaN}',
        b"\xff\xfe" + b"[\x00" * 100_000,
        b'"' + b"\\u0041" * 100_000,
    ],
)
def test_json_that_is_a_bomb_is_refused_by_the_management_port(open_server, bomb):
    """SEC-13: depth, huge numbers, names given twice, numbers that are none."""
    headers = {"Content-Type": "application/json"}
    reply = open_server.call("POST", "management", "/models", bomb, headers)

    assert reply.status == 400, reply
    assert reply.json()["type"] == "BadRequestException"
    assert len(reply.body) < 1000


def test_json_that_is_a_bomb_reaches_a_handler_as_the_bytes_it_is(open_server):
    """SEC-13: TorchServe's handlers get what is no JSON as bytes."""
    pids = open_server.pids("echo")
    headers = {"Content-Type": "application/json"}
    for bomb in (b"[" * 500_000, b"9" * 500_000):
        reply = open_server.call("POST", "inference", "/predictions/echo", bomb, headers)
        assert reply.status == 200
    assert open_server.pids("echo") == pids


def test_a_compressed_body_is_not_unpacked(open_server):
    """SEC-21: what a gigabyte is packed into stays as small as it came (as with TorchServe)."""
    bomb = gzip.compress(bytes(16_000_000))
    before = rss_kib(open_server)
    reply = open_server.call(
        "POST", "inference", "/predictions/echo", bomb, {"Content-Encoding": "gzip"}
    )

    assert json.loads(reply.body)["body"].encode("latin-1") == bomb
    assert rss_kib(open_server) - before < 4096


def test_a_compressed_message_is_unpacked_only_as_far_as_messages_may_go():
    """SEC-21, over gRPC, where clients may compress."""
    messages = Messages("gzip", 1_000_000)
    packed = gzip.compress(bytes(20_000_000))
    messages.feed(b"\1" + len(packed).to_bytes(4, "big") + packed)
    began = time.process_time()

    with pytest.raises(CallRefused):
        messages.next()
    assert time.process_time() - began < 0.2


def test_a_form_has_only_so_many_parts_and_their_heads_are_small():
    """SEC-22."""
    for body in (
        b"".join(PART % number for number in range(1001)) + b"--b--",
        b'--b\r\nContent-Disposition: form-data; name="' + b"\\" * 9000 + b'"\r\n\r\nx\r\n--b--',
        b"--b\r\n" + b"X: y\r\n" * 2000 + b"\r\nx\r\n--b--",
    ):
        with pytest.raises(InvalidInput, match="more than"):
            torchserve.parts(FORM, body)
    assert len(torchserve.parts(FORM, b"".join(PART % n for n in range(1000)) + b"--b--")) == 1000


@pytest.mark.parametrize(
    "filling", [b"\r", b"\r\n", b"\r\n--", b"\r\n--bx", b"--b", b"\n", b"x"], ids=repr
)
def test_a_form_is_read_in_a_time_that_grows_with_its_size(filling):
    """SEC-22: what looks like the end of a part, again and again."""

    def seconds(count_bytes):
        body = PART % 0 + PART[:-3] % 1 + filling * (count_bytes // len(filling)) + b"\r\n--b--"
        times = []
        for _ in range(3):
            began = time.process_time()
            torchserve.parts(FORM, body)
            times.append(time.process_time() - began)
        return min(times)

    assert seconds(800_000) <= 2.3 * seconds(400_000) + 0.005


@pytest.mark.parametrize("path", ["/predictions/echo", "/invocations?model_name=echo"])
def test_a_form_that_is_read_beside_the_loop_is_read_as_any_other(open_server, path):
    """F41: forms from 256 KiB on are taken apart in a thread."""
    form = b"a=1&body=" + b"%41" * 200_000
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = open_server.call("POST", "inference", path, form, kind)

    assert reply.status == 200
    assert {"a", "body"} <= set(reply.json()["keys"])
    assert reply.json()["body"] == "A" * 200_000
    wrong = {"Content-Type": "multipart/form-data; boundary=b"}
    reply = open_server.call("POST", "inference", path, b"x" * 300_000, wrong)
    assert (reply.status, reply.json()["type"]) == (400, "BadRequestException")
