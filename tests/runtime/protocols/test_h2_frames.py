"""HTTP/2's frames: what is sent can be read by an independent library, what is wrong is found."""

import pytest
from hyperframe import frame as reference
from hypothesis import given
from hypothesis import strategies as st

from marserve.protocols import h2_frames as h2
from marserve.protocols.h2_frames import ConnectionBroken, ErrorCode

STREAMS = st.integers(1, h2.MAX_STREAM_ID)
WORDS = st.integers(0, 2**31 - 1)


def read(raw):
    """A frame, as the reference implementation sees it."""
    parsed, length = reference.Frame.parse_frame_header(memoryview(raw[:9]))
    parsed.parse_body(memoryview(raw[9 : 9 + length]))
    assert len(raw) == 9 + length
    return parsed


@given(STREAMS, st.binary(max_size=200))
def test_data_and_headers_are_framed_as_others_read_them(stream_id, payload):
    data = read(h2.frame(h2.DATA, h2.END_STREAM, stream_id, payload))
    assert (data.stream_id, data.data, data.flags) == (stream_id, payload, {"END_STREAM"})
    headers = read(h2.frame(h2.HEADERS, h2.END_HEADERS, stream_id, payload))
    assert (headers.data, headers.flags) == (payload, {"END_HEADERS"})


@given(STREAMS, st.integers(1, h2.MAX_WINDOW), st.sampled_from(ErrorCode))
def test_control_frames_are_framed_as_others_read_them(stream_id, word, code):
    assert read(h2.window_update(stream_id, word)).window_increment == word
    assert read(h2.rst_stream(stream_id, code)).error_code == code
    goaway = read(h2.goaway(stream_id, code, "why"))
    assert (goaway.last_stream_id, goaway.error_code) == (stream_id, code)
    assert goaway.additional_data == b"why"
    echo = read(h2.ping(b"12345678", is_answer=True))
    assert (echo.opaque_data, echo.flags) == (b"12345678", {"ACK"})
    assert read(h2.settings({3: 100, 4: word})).settings == {3: 100, 4: word}
    assert read(h2.SETTINGS_ACK).flags == {"ACK"}


@given(st.binary(max_size=50), st.integers(0, 255), st.binary(max_size=5))
def test_padding_and_priority_are_taken_off(block, padding, priority):
    padded = bytes((padding,)) + block + bytes(padding)
    assert h2.without_padding(padded, h2.PADDED) == block
    assert h2.without_padding(block, 0) == block
    both = bytes((padding,)) + bytes(5) + block + bytes(padding)
    assert h2.header_block(both, h2.PADDED | h2.WITH_PRIORITY, 1) == block


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (lambda: h2.without_padding(b"", h2.PADDED), ErrorCode.PROTOCOL_ERROR),
        (lambda: h2.without_padding(b"\x03ab", h2.PADDED), ErrorCode.PROTOCOL_ERROR),
        (lambda: h2.header_block(bytes(4), h2.WITH_PRIORITY, 1), ErrorCode.FRAME_SIZE_ERROR),
        (lambda: h2.check_priority(bytes(6), 1), ErrorCode.FRAME_SIZE_ERROR),
        (lambda: h2.check_priority(b"\x80\0\0\x07\0", 7), ErrorCode.PROTOCOL_ERROR),
        (lambda: h2.check_priority(bytes(5), 0), ErrorCode.PROTOCOL_ERROR),
        (lambda: h2.number(bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (lambda: h2.parse_settings(bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
        (lambda: h2.parse_settings(b"\0\x02\0\0\0\x02"), ErrorCode.PROTOCOL_ERROR),
        (lambda: h2.parse_settings(b"\0\x04\x80\0\0\0"), ErrorCode.FLOW_CONTROL_ERROR),
        (lambda: h2.parse_settings(b"\0\x05\0\0\x3f\xff"), ErrorCode.PROTOCOL_ERROR),
        (lambda: h2.parse_settings(b"\0\x05\x01\0\0\0"), ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_what_is_wrong_ends_the_connection_with_the_right_code(wrong, code):
    with pytest.raises(ConnectionBroken) as raised:
        wrong()
    assert raised.value.code is code


def test_settings_that_nobody_knows_are_kept_and_the_top_bit_means_nothing():
    assert h2.parse_settings(b"\xff\xff\0\0\0\x01\0\x03\0\0\0\x02") == [(0xFFFF, 1), (3, 2)]
    assert h2.number(b"\x80\0\0\x05") == 5
