"""What the head of an answer looks like, and that a handler can break none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marserve.errors import HandlerFailed
from marserve.protocols.cors import Cors
from marserve.protocols.heads import Heads, has_body
from marserve.request import Answer

HEADS = Heads()
NO_CACHE = (
    "Pragma: no-cache\r\n"
    "Cache-Control: no-cache; no-store, must-revalidate, private\r\n"
    "Expires: Thu, 01 Jan 1970 00:00:00 UTC\r\n"
)


@pytest.mark.parametrize(("keep_alive", "connection"), [(True, "keep-alive"), (False, "close")])
def test_the_head_of_an_ordinary_answer(keep_alive, connection):
    assert HEADS.plain("id-1", 32, keep_alive).decode() == (
        "HTTP/1.1 200 OK\r\nx-request-id: id-1\r\n"
        + NO_CACHE
        + f"content-length: 32\r\nconnection: {connection}\r\n\r\n"
    )


def test_an_answer_with_nothing_special_has_the_ordinary_head():
    assert HEADS.answer(Answer(b"12345"), "id-1", True) == HEADS.plain("id-1", 5, True)
    assert HEADS.answer(Answer(b"12345", headers=[]), "id-1", True) == HEADS.plain("id-1", 5, True)


def test_headers_of_the_handler_come_first_and_as_it_spelled_them():
    answer = Answer(b"1", 201, None, [("content-type", "text/plain"), ("X-Odd", "\xe9\tz")])

    assert HEADS.answer(answer, "id-1", False) == (
        "HTTP/1.1 201 Created\r\ncontent-type: text/plain\r\nX-Odd: \xe9\tz\r\n"
        "x-request-id: id-1\r\n" + NO_CACHE + "content-length: 1\r\nconnection: close\r\n\r\n"
    ).encode("latin-1")


@pytest.mark.parametrize(
    "name",
    [
        "x-request-id", "Pragma", "Cache-Control", "Expires", "content-length", "Connection",
        "Transfer-Encoding", "Keep-Alive", "Upgrade", "Trailer", "TE",
    ],
)  # fmt: skip
@pytest.mark.parametrize("spell", [str, str.lower, str.upper])
def test_a_header_that_is_the_server_s_is_dropped(name, spell):
    answer = Answer(b"1", headers=[(spell(name), "handler's\r\nInjected: 1"), ("x", "y")])

    assert HEADS.answer(answer, "id-1", True) == HEADS.answer(
        Answer(b"1", headers=[("x", "y")]), "id-1", True
    )


@pytest.mark.parametrize(
    ("status", "phrase", "line"),
    [
        (200, None, b"HTTP/1.1 200 OK\r\n"),
        (200, "", b"HTTP/1.1 200 \r\n"),
        (200, "Fine", b"HTTP/1.1 200 Fine\r\n"),
        (404, None, b"HTTP/1.1 404 Not Found\r\n"),
        (299, None, b"HTTP/1.1 299 \r\n"),
        (599, "x", b"HTTP/1.1 599 x\r\n"),
        (418, "caf\xe9", b"HTTP/1.1 418 caf\xe9\r\n"),
    ],
)
def test_status_and_phrase_are_the_handler_s(status, phrase, line):
    made = HEADS.answer(Answer(b"body", status, phrase), "id-1", True)

    assert made.startswith(line)
    assert b"content-length: 4\r\n" in made


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_body_announces_no_length(status):
    made = HEADS.answer(Answer(b"ignored", status), "id-1", True)

    assert b"content-length" not in made
    assert made.endswith(b"connection: keep-alive\r\n\r\n")


@pytest.mark.parametrize("status", [-1, 0, 100, 101, 199, 600, 1000, 20000])
def test_a_status_that_breaks_the_exchange_is_the_handler_s_failure(status):
    with pytest.raises(HandlerFailed, match=f"The handler chose the HTTP status {status}"):
        HEADS.answer(Answer(b"", status), "id-1", True)


@pytest.mark.parametrize("phrase", ["a\r\nb", "a\nb", "\x00", "\x7f", "\u20ac", "x" * 257])
def test_a_phrase_that_http_cannot_carry_is_the_handler_s_failure(phrase):
    with pytest.raises(HandlerFailed, match="reason phrase"):
        HEADS.answer(Answer(b"", 200, phrase), "id-1", True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "a\r\nInjected: 1"),
        ("X", "a\nInjected: 1"),
        ("X", "a\rb"),
        ("X", "a\x00b"),
        ("X", "\x7f"),
        ("X", "\u20ac"),
        ("X", "v" * 8193),
        ("X\r\nInjected", "1"),
        ("X: 1\r\nY", "1"),
        ("", "1"),
        ("X Y", "1"),
        ("X:", "1"),
        ("Content-Length ", "1"),
        (" Content-Length", "1"),
        ("\xe9", "1"),
        ("X" * 129, "1"),
    ],
)
def test_a_header_that_http_cannot_carry_is_the_handler_s_failure(name, value):
    with pytest.raises(HandlerFailed, match="that HTTP cannot carry"):
        HEADS.answer(Answer(b"", headers=[(name, value)]), "id-1", True)


def test_a_handler_may_set_many_headers_but_not_any_number():
    headers = [(f"x-{number}", "v") for number in range(65)]

    assert HEADS.answer(Answer(b"", headers=headers[:64]), "id-1", True).count(b"x-") == 64 + 1
    with pytest.raises(HandlerFailed, match="more than 64 headers"):
        HEADS.answer(Answer(b"", headers=headers), "id-1", True)


@settings(max_examples=300)
@given(
    st.integers(-10, 1010),
    st.none() | st.text(max_size=12),
    st.none() | st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), max_size=4),
)
def test_a_head_says_exactly_what_the_handler_set_or_is_refused(status, phrase, headers):
    try:
        made = HEADS.answer(Answer(b"12", status, phrase, headers), "id-1", True)
    except HandlerFailed:
        return
    assert made.endswith(b"\r\n\r\n")
    first, *lines = made[:-4].decode("latin-1").split("\r\n")
    assert "\r" not in "".join(lines)
    assert "\n" not in "".join(lines)
    assert first.startswith(f"HTTP/1.1 {status} ")
    got = [tuple(line.split(": ", 1)) for line in lines]
    handlers = [header for header in headers or [] if header[0].lower() not in SERVERS]
    assert got[: len(handlers)] == handlers
    assert {name.lower() for name, _ in got[len(handlers) :]} <= SERVERS


SERVERS = {
    "cache-control", "connection", "content-length", "expires", "keep-alive", "pragma", "te",
    "trailer", "transfer-encoding", "upgrade", "x-request-id", "date", "server",
    "proxy-authenticate", "proxy-authentication-info", "proxy-authorization", "proxy-connection",
}  # fmt: skip


def test_the_head_of_an_error_has_its_content_type_first():
    made = HEADS.any(404, [("content-type", "application/json")], "id-1", 94, False)

    assert made.decode() == (
        "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\nx-request-id: id-1\r\n"
        + NO_CACHE
        + "content-length: 94\r\nconnection: close\r\n\r\n"
    )


# --- answers in pieces ----------------------------------------------------------------------------


def test_the_head_of_a_stream_says_what_clients_of_torchserve_know_it_by():
    assert HEADS.stream(Answer(b"1"), "id-1", True, chunked=True).decode() == (
        "HTTP/1.1 200 OK\r\nts_stream_next: true\r\nx-request-id: id-1\r\n"
        + NO_CACHE
        + "transfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n"
    )


def test_the_head_of_a_stream_has_what_the_first_piece_set():
    first = Answer(b"1", 201, "Begun", [("X", "y"), ("Ts_Stream_Next", "true"), ("TE", "z")])

    assert HEADS.stream(first, "id-1", True, chunked=True).decode() == (
        "HTTP/1.1 201 Begun\r\nX: y\r\nTs_Stream_Next: true\r\nx-request-id: id-1\r\n"
        + NO_CACHE
        + "transfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n"
    )


@pytest.mark.parametrize(("status", "chunked"), [(200, False), (204, True), (304, True)])
def test_the_head_of_a_stream_announces_chunks_only_where_they_come(status, chunked):
    made = HEADS.stream(Answer(b"1", status), "id-1", False, chunked)

    assert b"transfer-encoding" not in made
    assert b"content-length" not in made
    assert made.endswith(b"connection: close\r\n\r\n")
    assert has_body(status) is (status == 200)


def test_a_first_piece_that_http_cannot_carry_is_the_handler_s_failure():
    with pytest.raises(HandlerFailed):
        HEADS.stream(Answer(b"1", headers=[("X", "a\r\nb")]), "id-1", True, chunked=True)


# --- cross-origin headers -------------------------------------------------------------------------

CORS = Heads(Cors("https://app.example", "GET, POST", "X-Custom"))
ALLOWED = (
    "access-control-allow-origin: https://app.example\r\n"
    "access-control-allow-methods: GET, POST\r\n"
    "access-control-allow-headers: X-Custom\r\n"
)


def test_every_head_has_the_cross_origin_headers_that_are_configured():
    answer = Answer(b"1", 201, None, [("X", "y")])

    for made in (
        CORS.plain("id-1", 1, True),
        CORS.answer(answer, "id-1", True),
        CORS.stream(answer, "id-1", True, chunked=True),
        CORS.any(404, [("content-type", "application/json")], "id-1", 9, False),
    ):
        assert (NO_CACHE + ALLOWED).encode() in made


def test_what_the_handler_sets_of_them_is_not_sent_twice():
    answer = Answer(b"1", headers=[("Access-Control-Allow-Origin", "*")])
    made = CORS.answer(answer, "id-1", True).decode()

    assert "Access-Control-Allow-Origin: *\r\n" in made
    assert made.lower().count("access-control-allow-origin") == 1
    assert "access-control-allow-methods: GET, POST\r\n" in made


@pytest.mark.parametrize(
    ("cors", "method", "origin", "asked", "expected"),
    [
        (Cors("*"), b"OPTIONS", b"https://a", b"POST", True),
        (Cors("*"), b"GET", b"https://a", b"POST", False),
        (Cors("*"), b"OPTIONS", b"", b"POST", False),
        (Cors("*"), b"OPTIONS", b"https://a", b"", False),
        (Cors(), b"OPTIONS", b"https://a", b"POST", False),
        (Cors(methods="GET"), b"OPTIONS", b"https://a", b"POST", False),
    ],
)
def test_a_preflight_is_answered_where_an_origin_is_allowed(cors, method, origin, asked, expected):
    assert cors.answers_preflight(method, origin, asked) is expected
