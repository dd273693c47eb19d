"""HPACK blocks: what is remembered is never stale; what is written, others read."""

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from marserve.protocols.h2_frames import ConnectionBroken, ErrorCode
from marserve.protocols.h2_headers import MAX_LIST_BYTES, HeaderReader, encoded

NAMES = st.sampled_from([b":path", b"te", b"x-a", b"x-b", b"content-type", b"grpc-timeout"])
VALUES = st.one_of(st.sampled_from([b"", b"trailers", b"1S", b"/a/b"]), st.binary(max_size=300))
LISTS = st.lists(st.tuples(NAMES, VALUES), max_size=6)


@given(st.lists(st.tuples(LISTS, st.sampled_from([None, 0, 64, 200, 4096])), max_size=30))
def test_blocks_mean_what_their_sender_meant_whatever_is_remembered(sent):
    encoder = Encoder()
    reader = HeaderReader(list)
    for fields, table_bytes in sent:
        if table_bytes is not None:
            encoder.header_table_size = table_bytes
        for _ in range(3):
            block = encoder.encode(fields)
            assert reader.read(block) == fields


@given(LISTS)
def test_what_is_written_is_what_others_read(fields):
    assert [tuple(one) for one in Decoder().decode(encoded(fields), raw=True)] == fields


def test_a_block_that_comes_again_is_not_decoded_again():
    understood = []

    def understand(fields):
        understood.append(fields)
        return fields

    encoder, reader = Encoder(), HeaderReader(understand)
    for _ in range(10):
        reader.read(encoder.encode([(b"x-a", b"1"), (b":path", b"/a")]))
    assert len(understood) == 2  # the first fills the table, the second is short


def test_what_is_remembered_is_bounded():
    reader = HeaderReader(list)
    for number in range(10_000):
        reader.read(encoded([(b"x-a", str(number).encode())]))
    assert len(reader.known) <= 64
    reader.read(encoded([(b"x-a", bytes(5000))]))
    assert all(len(block) < 1000 for block in reader.known)


@given(st.binary(max_size=300))
def test_any_bytes_are_fields_or_the_right_error(block):
    reader = HeaderReader(list)
    code, fields = None, []
    try:
        fields = reader.read(block)
    except ConnectionBroken as broken:
        code = broken.code
    assert code in (None, ErrorCode.COMPRESSION_ERROR)
    assert all(isinstance(part, bytes) for field in fields for part in field)


def test_a_small_block_that_unpacks_to_very_much_ends_the_connection():
    encoder = Encoder()
    encoder.encode([(b"x-a", bytes(4000))])
    block = encoder.encode([(b"x-a", bytes(4000))]) * 100
    reader = HeaderReader(list)
    reader.read(Encoder().encode([(b"x-a", bytes(4000))]))
    assert len(block) < MAX_LIST_BYTES // 100
    with pytest.raises(ConnectionBroken) as raised:
        reader.read(block)
    assert raised.value.code is ErrorCode.ENHANCE_YOUR_CALM
