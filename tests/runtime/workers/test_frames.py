"""Frames survive any cut of the byte stream; bytes that are no frames are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.workers.frames import (
    FORMAT,
    HEADER,
    LARGE_BYTES,
    Decoder,
    Frame,
    FrameError,
    encode,
    encode_pieces,
)
from marserve.workers.messages import FrameKind

LIMIT = 1 << 16

kinds = st.sampled_from(list(FrameKind))
frames = st.lists(
    st.tuples(kinds, st.binary(max_size=40), st.lists(st.binary(max_size=60), max_size=4)),
    max_size=6,
)


def plain(frame):
    return (frame.kind, frame.meta, bytes(frame.buffers))


def cut(data, lengths):
    """`data` in pieces; the last piece is whatever is left."""
    pieces = []
    for length in lengths:
        pieces.append(data[:length])
        data = data[length:]
    return [*pieces, data]


def test_a_frame_is_a_header_then_meta_then_buffers():
    data = encode(FrameKind.RESULT, b"meta", [b"one", b"", b"three"])

    assert data == HEADER.pack(13, 1, 0, 4, 8) + b"meta" + b"onethree"


def test_a_header_has_sixteen_bytes_in_little_endian():
    assert encode(FrameKind.STOP, b"") == b"\x03\x01\x00\x00" + b"\x00" * 12


@given(frames, st.lists(st.integers(0, 30), max_size=40))
def test_any_cut_of_the_stream_yields_the_same_frames(sent, lengths):
    stream = b"".join(encode(kind, meta, buffers) for kind, meta, buffers in sent)
    decoder = Decoder(LIMIT)

    got = [plain(frame) for piece in cut(stream, lengths) for frame in decoder.feed(piece)]

    assert got == [(kind, meta, b"".join(buffers)) for kind, meta, buffers in sent]


LARGE = st.integers(LARGE_BYTES - 2, LARGE_BYTES + 2).map(bytes)
mixed = st.lists(
    st.tuples(kinds, st.binary(max_size=40), st.lists(st.binary(max_size=60) | LARGE, max_size=4)),
    max_size=4,
)


@given(mixed, st.lists(st.integers(1, LARGE_BYTES), min_size=1, max_size=8))
def test_large_and_small_frames_arrive_however_they_are_read(sent, reads):
    stream = memoryview(b"".join(encode(*frame) for frame in sent))
    decoder, got, turn = Decoder(1 << 20), [], 0
    while stream:
        room, wanted = decoder.room, max(reads[turn % len(reads)], len(stream) // 50)
        turn += 1
        if room is None:
            got += decoder.feed(stream[:wanted])
        else:
            wanted = min(wanted, len(room), len(stream))
            room[:wanted] = stream[:wanted]
            got += filter(None, [decoder.filled(wanted)])
        stream = stream[wanted:]

    assert decoder.room is None
    assert [plain(frame) for frame in got] == [
        (kind, meta, b"".join(buffers)) for kind, meta, buffers in sent
    ]


@pytest.mark.parametrize("position", range(60))
def test_a_large_frame_cut_at_any_byte_can_be_fed_with_what_follows_it(position):
    body = bytes(range(256)) * (LARGE_BYTES // 256)
    stream = encode(FrameKind.RESULT, b"meta", [body, b"end"])
    follower = encode(FrameKind.LOADED, b"next", [b"small"])
    for cut_at in (position, len(stream) - position):
        decoder = Decoder(1 << 20)

        got = [*decoder.feed(stream[:cut_at]), *decoder.feed(stream[cut_at:] + follower)]

        assert [plain(frame) for frame in got] == [
            (FrameKind.RESULT, b"meta", body + b"end"),
            (FrameKind.LOADED, b"next", b"small"),
        ]


@given(mixed)
def test_the_pieces_of_a_frame_are_its_bytes_and_large_buffers_are_not_copied(sent):
    for kind, meta, buffers in sent:
        pieces = encode_pieces(kind, meta, buffers)
        whole = pieces if isinstance(pieces, bytes) else b"".join(pieces)

        assert whole == encode(kind, meta, buffers)
        for buffer in buffers:
            if len(buffer) >= LARGE_BYTES:
                assert any(piece is buffer for piece in pieces)


@given(st.lists(st.binary(max_size=80), max_size=10))
def test_random_bytes_raise_nothing_but_frame_errors(pieces):
    decoder = Decoder(LIMIT)
    try:
        for piece in pieces:
            for frame in decoder.feed(piece):
                assert isinstance(frame, Frame)
    except FrameError:
        pass


@given(frames.filter(bool), st.data())
def test_a_flipped_bit_gives_frames_or_a_frame_error(sent, data):
    stream = bytearray(b"".join(encode(*frame) for frame in sent))
    position = data.draw(st.integers(0, len(stream) * 8 - 1))
    stream[position // 8] ^= 1 << (position % 8)
    decoder = Decoder(LIMIT)
    try:
        got = list(decoder.feed(stream))
    except FrameError:
        return
    assert len(got) <= len(stream) // HEADER.size


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (HEADER.pack(0, FORMAT, 0, 0, 0), "not a frame: kind 0"),
        (HEADER.pack(99, FORMAT, 0, 0, 0), "not a frame: kind 99"),
        (HEADER.pack(FrameKind.BATCH, FORMAT + 1, 0, 0, 0), "format 2"),
        (HEADER.pack(FrameKind.BATCH, FORMAT, 1, 0, 0), "not a frame"),
        (HEADER.pack(FrameKind.BATCH, FORMAT, 0, LIMIT, 0), "over the limit"),
        (HEADER.pack(FrameKind.BATCH, FORMAT, 0, 0, 2**64 - 1), "over the limit"),
        (HEADER.pack(FrameKind.BATCH, FORMAT, 0, 2**32 - 1, 2**64 - 1), "over the limit"),
        (b"GET / HTTP/1.1\r\n\r\n", "not a frame"),
    ],
)
def test_a_bad_header_is_refused_before_its_payload_is_awaited(header, reason):
    decoder = Decoder(LIMIT)

    with pytest.raises(FrameError, match=reason):
        list(decoder.feed(header))


def test_a_frame_of_exactly_the_limit_passes_and_one_byte_more_does_not():
    body = b"x" * 84
    assert len(list(Decoder(100).feed(encode(FrameKind.STOP, b"", [body])))) == 1

    with pytest.raises(FrameError, match="101 bytes is over the limit 100"):
        list(Decoder(100).feed(encode(FrameKind.STOP, b"", [body + b"x"])))


def test_what_came_before_the_bad_bytes_is_delivered_and_nothing_after_them():
    decoder = Decoder(LIMIT)
    good = encode(FrameKind.LOADED, b"m")
    frames = decoder.feed(good + b"\xff" * 16 + good)

    assert plain(next(frames)) == (FrameKind.LOADED, b"m", b"")
    with pytest.raises(FrameError):
        next(frames)
    with pytest.raises(FrameError):
        list(decoder.feed(good))


def test_the_buffers_of_a_frame_stay_as_they_are_when_more_arrives():
    decoder = Decoder(LIMIT)
    [first] = decoder.feed(encode(FrameKind.RESULT, b"a", [b"first"]))
    [second] = decoder.feed(encode(FrameKind.RESULT, b"b", [b"second"]))
    list(decoder.feed(b"\x0d"))

    assert bytes(first.buffers) == b"first"
    assert bytes(second.buffers) == b"second"
