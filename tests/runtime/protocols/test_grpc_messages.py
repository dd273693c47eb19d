"""Messages in the body of a call, whatever pieces it comes in."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.protocols.grpc_messages import Messages, check_encoding, prefixed, whole
from marserve.protocols.grpc_status import CallRefused, Code

LIMIT = 1000


def compressed(message, pack):
    packed = pack(message)
    return b"\x01" + len(packed).to_bytes(4, "big") + packed


def taken(body, encoding="identity", limit=LIMIT):
    messages = Messages(encoding, limit)
    messages.feed(body)
    return messages.next()


@given(st.lists(st.binary(max_size=300), max_size=10), st.lists(st.integers(1, 400), min_size=1))
def test_messages_come_out_whole_and_in_order(sent, sizes):
    body = b"".join(prefixed(one) for one in sent)
    messages = Messages("identity", LIMIT)
    got, at = [], 0
    while at < len(body):
        size = sizes[at % len(sizes)]
        messages.feed(body[at : at + size])
        at += size
        while (one := messages.next()) is not None:
            message, size_bytes = one
            assert size_bytes == len(message) + 5
            got.append(message)
    assert got == sent
    assert messages.is_empty


def test_what_is_missing_is_known_from_the_prefix_on():
    messages = Messages("identity", LIMIT)
    messages.feed(b"\0\0\0\0")
    assert messages.missing_bytes == 0
    messages.feed(b"\x07ab")
    assert messages.missing_bytes == 5
    assert messages.next() is None
    messages.feed(b"cdefg")
    assert messages.missing_bytes == 0
    assert messages.next() == (b"abcdefg", 12)


@given(st.binary(max_size=20))
def test_a_body_that_is_one_message_is_seen_at_a_glance(message):
    assert whole(prefixed(message), 20) == message
    assert whole(prefixed(message) + b"x", 100) is None
    assert whole(prefixed(message)[:-1], 100) is None
    assert whole(b"\x01" + prefixed(message)[1:], 100) is None
    if message:
        assert whole(prefixed(message), len(message) - 1) is None


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_compressed_messages_are_unpacked(encoding, pack):
    body = compressed(b"x" * LIMIT, pack)
    assert taken(body, encoding) == (b"x" * LIMIT, len(body))
    assert taken(prefixed(b"plain"), encoding) == (b"plain", 10)


@pytest.mark.parametrize(
    ("body", "encoding", "code"),
    [
        (b"\0\0\0\x03\xe9", "identity", Code.RESOURCE_EXHAUSTED),
        (b"\0\xff\xff\xff\xff", "identity", Code.RESOURCE_EXHAUSTED),
        (compressed(bytes(10_000_000), gzip.compress)[:5], "gzip", Code.RESOURCE_EXHAUSTED),
        (compressed(bytes(100_000), gzip.compress), "gzip", Code.RESOURCE_EXHAUSTED),
        (compressed(b"x", gzip.compress), "identity", Code.INTERNAL),
        (compressed(b"x", gzip.compress), "deflate", Code.INTERNAL),
        (compressed(b"x", lambda raw: gzip.compress(raw)[:-1]), "gzip", Code.INTERNAL),
        (compressed(b"x", lambda raw: gzip.compress(raw) + b"y"), "gzip", Code.INTERNAL),
        (b"\x02\0\0\0\x01x", "gzip", Code.INTERNAL),
    ],
)
def test_what_cannot_be_a_message_is_refused(body, encoding, code):
    with pytest.raises(CallRefused) as raised:
        taken(body, encoding)
    assert raised.value.failure.code is code


def test_only_known_compressions_are_taken():
    for known in ("identity", "gzip", "deflate"):
        check_encoding(known)
    with pytest.raises(CallRefused, match="snappy") as raised:
        check_encoding("snappy")
    assert raised.value.failure.code is Code.UNIMPLEMENTED
