"""Heads that are known again mean exactly what a parser would say of them."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.servers import request_reader
from marserve.servers.connection import HttpConnection
from marserve.servers.request_head import MAX_REPEATED_BYTES, HeadPattern, RequestHead
from marserve.servers.request_reader import RequestReader

MAX_BODY_BYTES = 50


def head(*fields, method=b"POST", target=b"/predictions/m"):
    lines = [method + b" " + target + b" HTTP/1.1", *fields]
    return b"\r\n".join((*lines, b"", b""))


def parsed(*fields, method=b"POST"):
    made = RequestHead(method, b"/predictions/m")
    made.headers = [tuple(field.split(b": ")) for field in fields]
    return made


PLAIN = (b"Host: h", b"Content-Length: 12", b"X: y")


# --- patterns -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "headers"),
    [
        (head(*PLAIN), [b"h", b"12", b"y"]),
        (head(b"Host: h", b"Content-Length: 7", b"X: y"), [b"h", b"7", b"y"]),
        (head(b"Host: h", b"Content-Length: 0007", b"X: y"), [b"h", b"0007", b"y"]),
        (head(*PLAIN) + b"and a body", [b"h", b"12", b"y"]),
    ],
)
def test_a_head_that_differs_by_its_length_alone_is_known_again(sent, headers):
    pattern = HeadPattern.of(parsed(*PLAIN), head(*PLAIN))

    assert pattern.matches(sent)
    assert [value for _, value in pattern.head.headers] == headers
    assert pattern.head.body_bytes == int(headers[1]) or sent.startswith(head(*PLAIN))
    assert sent.startswith(pattern.raw)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        head(*PLAIN)[:-1],
        head(*PLAIN).replace(b"POST", b"GET"),
        head(b"host: h", *PLAIN[1:]),
        head(b"Host: h", b"Content-Length: -1", b"X: y"),
        head(b"Host: h", b"Content-Length: +1", b"X: y"),
        head(b"Host: h", b"Content-Length: 1_0", b"X: y"),
        head(b"Host: h", b"Content-Length: ", b"X: y"),
        head(b"Host: h", b"Content-Length: 1 ", b"X: y"),
        head(b"Host: h", b"Content-Length: 1111111111111111", b"X: y"),
        head(b"Host: h", b"Content-Length: 1\n", b"X: y"),
        head(b"Host: h", b"Content-Length: 1", b"X: z"),
        head(b"Host: h", b"Content-Length: 1", b"X: y", b"Y: z"),
    ],
)
def test_any_other_head_is_left_to_the_parser(sent):
    pattern = HeadPattern.of(parsed(*PLAIN), head(*PLAIN))

    assert not pattern.matches(sent)
    assert pattern.raw == head(*PLAIN)


@pytest.mark.parametrize(
    ("raw", "changes"),
    [
        (head(b"Host: h"), {}),
        (head(b"Content-Length: 1", b"Content-Length: 1"), {}),
        (head(b"Content-Length: 1", b"X: " + b"y" * MAX_REPEATED_BYTES), {}),
        (head(*PLAIN), {"keep_alive": False}),
        (head(*PLAIN), {"takes_chunks": False}),
        (head(*PLAIN), {"is_reframed": True}),
        (head(*PLAIN), {"method": b"HEAD"}),
        (b"\r\n", {}),
    ],
)
def test_what_is_not_plain_is_parsed_each_time(raw, changes):
    unusual = parsed(*PLAIN)
    for name, value in changes.items():
        setattr(unusual, name, value)

    assert HeadPattern.of(unusual, raw) is None


def test_headers_as_text_are_made_once_and_follow_the_length():
    pattern = HeadPattern.of(parsed(*PLAIN), head(*PLAIN))

    assert pattern.head.seen is pattern.head.seen
    assert pattern.matches(head(b"Host: h", b"Content-Length: 3", b"X: y"))
    assert pattern.head.seen == [("Host", "h"), ("Content-Length", "3"), ("X", "y")]


# --- a connection with and without ----------------------------------------------------------------


class Transport(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.written = []

    def write(self, data):
        self.written.append(bytes(data))

    def get_write_buffer_size(self):
        return 0

    def can_write_eof(self):
        return False

    def close(self):
        self.written.append("closed")

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def is_closing(self):
        return False


def told_of(reads, most_unrepeated, monkeypatch):
    """What a connection makes of these reads: its exchanges and what it wrote."""
    monkeypatch.setattr(request_reader, "_MAX_UNREPEATED", most_unrepeated)
    told = []
    loop = asyncio.new_event_loop()
    try:

        def on_request(exchange):
            told.append(
                (
                    exchange.method,
                    exchange.target,
                    list(exchange.headers),
                    exchange.head.seen,
                    exchange.body,
                    exchange.keep_alive,
                    exchange.is_head,
                    exchange.takes_chunks,
                    exchange.head.is_reframed,
                    exchange.head.body_bytes,
                )
            )
            exchange.respond(b"answer\r\n\r\n", b"")

        def on_refused(exchange, status):
            told.append(status)
            exchange.respond(b"refused\r\n\r\n", b"")

        connection = HttpConnection(loop, MAX_BODY_BYTES, on_request, on_refused, set())
        transport = Transport()
        connection.connection_made(transport)
        for read in reads:
            connection.data_received(read)
    finally:
        loop.close()
    return told, transport.written


FIELDS = st.sampled_from(
    [
        b"Accept: h",
        b"X: y",
        b"Content-Type: application/json",
        b"Expect: 100-continue",
        b"Connection: close",
        b"Transfer-Encoding: chunked",
        b"Upgrade: h2c\r\nConnection: upgrade",
        b"content-length: 3",
    ]
)


@st.composite
def requests(draw):
    """A few kinds of heads, each several times with bodies of different lengths."""
    kinds = draw(st.lists(st.lists(FIELDS, max_size=3), min_size=1, max_size=2))
    sent = b""
    for fields in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=8)):
        body = draw(st.binary(max_size=MAX_BODY_BYTES + 3))
        length = draw(st.sampled_from([b"%d", b"%d", b"%d", b"0%d", b"+%d", b"%d "]))
        method = draw(st.sampled_from([b"POST", b"POST", b"POST", b"HEAD", b"PO"]))
        begin = draw(st.sampled_from([b"", b"", b"", b"\r\n", b"x"]))
        lengths = [b"Content-Length: " + length % len(body)] if draw(st.booleans()) else []
        sent += begin + head(b"Host: h", *fields, *lengths, method=method) + body
    return sent


@given(requests(), st.data())
def test_repeated_heads_change_nothing_but_the_time_it_takes(sent, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    reads = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True) if a < b]
    with pytest.MonkeyPatch.context() as monkeypatch:
        parsed_each_time = told_of(reads, 0, monkeypatch)
        remembered = told_of(reads, 8, monkeypatch)

    assert remembered == parsed_each_time


def test_a_repeated_head_is_not_parsed(monkeypatch):
    fed = []
    begin = RequestReader._begin
    monkeypatch.setattr(
        RequestReader, "_begin", lambda self, *read: (fed.append(read[0]), begin(self, *read))[1]
    )
    sent = [head(*PLAIN) + b"x" * 12] * 5
    told, _ = told_of(sent, 8, monkeypatch)

    assert len(told) == 5
    assert fed == sent[:1]


def test_a_connection_whose_heads_never_repeat_stops_remembering_them(monkeypatch):
    made = []
    monkeypatch.setattr(HeadPattern, "of", lambda head, raw: made.append(raw))
    sent = [head(*PLAIN, b"N: %d" % number) + b"x" * 12 for number in range(40)]
    told, _ = told_of(sent, 8, monkeypatch)

    assert len(told) == 40
    assert len(made) == 8
