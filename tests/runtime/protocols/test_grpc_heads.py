"""The headers of gRPC calls and answers."""

from urllib.parse import unquote_to_bytes

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from marserve.protocols.grpc_heads import (
    ANSWER_HEAD,
    MALFORMED,
    OK_TRAILERS,
    call_head,
    no_grpc,
    percent_encoded,
    trailers,
)
from marserve.protocols.grpc_status import Code

CALL = {
    b":method": b"POST",
    b":scheme": b"http",
    b":path": b"/a.B/C",
    b"content-type": b"application/grpc",
    b"te": b"trailers",
}


def call(**changed):
    """A call's fields, changed; None leaves one out."""
    given = {name.replace("_", "-").encode(): value for name, value in changed.items()}
    fields = CALL | {(b":" + n if b":" + n in CALL else n): v for n, v in given.items()}
    return [(name, value) for name, value in fields.items() if value is not None]


def test_a_plain_call_is_understood():
    head = call_head(call())
    assert (head.path, head.timeout_s, head.encoding) == ("a.B/C", None, "identity")
    assert (head.authorization, head.body_bytes, head.http_status) == (None, None, 200)
    assert not head.is_malformed
    assert not head.is_too_large


def test_what_a_call_says_of_itself_is_understood():
    fields = call(
        grpc_timeout=b"1500m", grpc_encoding=b"gzip", authorization=b"Bearer x", content_length=b"7"
    )
    head = call_head([*fields, (b"authorization", b"Bearer y"), (b"x-bin", b"AAEC")])
    assert (head.timeout_s, head.encoding) == (1.5, "gzip")
    assert (head.authorization, head.body_bytes) == ("Bearer x", 7)


def test_a_call_may_be_repeated_unless_it_says_no_retry():
    assert call_head(call()).may_repeat
    assert call_head(call(x_no_retry=b"0")).may_repeat
    assert not call_head(call(x_no_retry=b"1")).may_repeat


def test_blanks_around_values_mean_nothing():
    assert call_head(call(authorization=b"Bearer ")).authorization == "Bearer"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"3S", 3),
        (b"4m", 0.004),
        (b"5u", 5e-6),
        (b"6n", 6e-9),
        (b"0n", 0),
        (b"99999999H", 99999999 * 3600),
    ],
)
def test_timeouts_have_units(text, seconds):
    assert call_head(call(grpc_timeout=text)).timeout_s == pytest.approx(seconds)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        call(method=None),
        call(scheme=None),
        call(path=None),
        call(path=b""),
        call(path=b"a.B/C"),
        [*call(), (b":path", b"/x")],
        [*call(), (b":authority", b"late")],
        [(b":status", b"200"), *call()],
        [(b":path", b"/x"), *call()],
        [*call(), (b"X-Upper", b"1")],
        [*call(), (b"", b"1")],
        [*call(), (b"a b", b"1")],
        [*call(), (b"x", b"1\n2")],
        [*call(), (b"x", b"1\0")],
        call(te=b"gzip"),
        call(connection=b"close"),
        call(transfer_encoding=b"chunked"),
        call(content_length=b"-1"),
        call(content_length=b"1,1"),
        call(grpc_timeout=b"1"),
        call(grpc_timeout=b"123456789S"),
        call(grpc_timeout=b"1x"),
    ],
)
def test_what_is_no_request_is_malformed(fields):
    assert call_head(fields) is MALFORMED


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (call(method=b"GET"), 405),
        (call(content_type=None), 415),
        (call(content_type=b"application/json"), 415),
        (call(content_type=b"application/grpc+json"), 415),
        (call(content_type=b"application/grpc+proto"), 200),
        (call(content_type=b"Application/gRPC; charset=x"), 200),
    ],
)
def test_what_is_no_grpc_call_gets_an_http_status(fields, status):
    assert call_head(fields).http_status == status


def test_metadata_are_counted_with_what_a_field_costs():
    assert not call_head([*call(), (b"x", bytes(16_000).replace(b"\0", b"y"))]).is_too_large
    assert call_head([*call(), *[(b"x", b"")] * 600]).is_too_large


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=12)), max_size=12))
def test_any_fields_are_understood_or_malformed(fields):
    call_head(fields)
    call_head([*call(), *fields])


def fields_of(block):
    return [tuple(one) for one in Decoder().decode(block)]


def test_answers_have_the_heads_and_ends_that_clients_expect():
    head = [(":status", "200"), ("content-type", "application/grpc")]
    assert fields_of(ANSWER_HEAD) == head
    assert fields_of(OK_TRAILERS) == [("grpc-status", "0")]
    assert fields_of(trailers(Code.NOT_FOUND, "No ü 100%\n", is_all=True)) == [
        *head,
        ("grpc-status", "5"),
        ("grpc-message", "No %C3%BC 100%25%0A"),
    ]
    assert fields_of(trailers(Code.UNIMPLEMENTED, "", is_all=False)) == [
        ("grpc-status", "12"),
        ("grpc-accept-encoding", "identity,gzip,deflate"),
    ]
    assert fields_of(no_grpc(405)) == [
        (":status", "405"),
        ("content-length", "0"),
        ("allow", "POST"),
    ]


@given(st.text())
def test_descriptions_survive_their_encoding(text):
    raw = percent_encoded(text)
    assert all(0x20 <= byte <= 0x7E for byte in raw)
    assert unquote_to_bytes(raw) == text.encode("utf-8", "replace")
