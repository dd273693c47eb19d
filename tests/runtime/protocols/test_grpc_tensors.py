"""Elements of tensors, as typed fields and as raw bytes."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.protocols.grpc_tensors import FIELDS, from_contents, from_raw, to_contents, to_raw
from marserve.protocols.pb.open_inference_grpc_pb2 import InferTensorContents


def integers(bits, *, signed):
    low = -(2 ** (bits - 1)) if signed else 0
    return st.integers(low, low + 2**bits - 1)


def floats(width):
    return st.floats(width=width, allow_nan=False)


ELEMENTS = {
    "BOOL": st.booleans(),
    **{f"INT{bits}": integers(bits, signed=True) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": integers(bits, signed=False) for bits in (8, 16, 32, 64)},
    "FP16": floats(16),
    "BF16": st.integers(0, 0x7F7F).map(
        lambda half: struct.unpack("<f", struct.pack("<I", half << 16))[0]
    ),
    "FP32": floats(32),
    "FP64": floats(64),
    "BYTES": st.binary(max_size=20),
}


def test_every_datatype_is_tried():
    assert set(ELEMENTS) == set(FIELDS)


@given(st.data(), st.sampled_from(sorted(FIELDS)))
def test_elements_survive_the_way_through_raw_bytes(data, datatype):
    elements = data.draw(st.lists(ELEMENTS[datatype], max_size=20))
    assert from_raw(datatype, to_raw(datatype, elements)) == elements


@given(st.data(), st.sampled_from(sorted(FIELDS)))
def test_elements_survive_the_way_through_their_field(data, datatype):
    elements = data.draw(st.lists(ELEMENTS[datatype], max_size=20))
    assert from_contents(datatype, to_contents(datatype, elements)) == elements


@given(st.sampled_from(sorted(FIELDS)), st.binary(max_size=40))
def test_any_raw_bytes_are_elements_or_a_value_error(datatype, raw):
    try:
        elements = from_raw(datatype, raw)
    except ValueError:
        return
    if not any(element != element for element in elements):  # NaN has many forms
        again = to_raw(datatype, elements)
        assert again == raw or datatype == "BOOL"


@pytest.mark.parametrize(
    ("datatype", "elements"),
    [
        ("INT8", [128]),
        ("INT8", [-129]),
        ("UINT16", [65536]),
        ("UINT8", [-1]),
        ("INT32", [2**31]),
        ("UINT64", [-1]),
        ("INT32", ["1"]),
        ("INT8", ["1"]),
        ("INT64", [None]),
        ("FP32", ["x"]),
        ("FP64", [{}]),
        ("BOOL", ["true"]),
        ("INT64", [1.5]),
    ],
)
def test_what_is_no_element_of_a_datatype_is_refused_in_both_forms(datatype, elements):
    with pytest.raises(ValueError, match=f"has an element that is no {datatype}"):
        to_contents(datatype, elements)


@pytest.mark.parametrize(
    ("datatype", "elements"),
    [("INT8", [128]), ("UINT64", [-1]), ("FP32", ["x"]), ("FP16", [1e6]), ("BF16", [None])],
)
def test_what_is_no_element_of_a_datatype_has_no_raw_form(datatype, elements):
    with pytest.raises(ValueError, match=f"has an element that is no {datatype}"):
        to_raw(datatype, elements)


@pytest.mark.parametrize(
    ("datatype", "raw"),
    [
        ("INT32", b"\0\0\0"),
        ("FP64", b"\0" * 9),
        ("BYTES", b"\1\0\0"),
        ("BYTES", b"\2\0\0\0a"),
        ("BYTES", b"\1\0\0\0a\xff\xff\xff\xff"),
    ],
)
def test_raw_bytes_that_end_in_the_middle_of_an_element_are_refused(datatype, raw):
    with pytest.raises(ValueError, match="raw"):
        from_raw(datatype, raw)


def test_elements_in_a_field_of_another_datatype_are_refused():
    contents = InferTensorContents(fp32_contents=[1.0])
    with pytest.raises(ValueError, match="has elements in fp32_contents; those of INT32 belong"):
        from_contents("INT32", contents)


def test_bf16_is_rounded_to_the_nearest_and_keeps_what_is_no_number():
    third = to_raw("BF16", [1 / 3, math.inf, -math.inf, -0.0])
    assert third == struct.pack("<4H", 0x3EAB, 0x7F80, 0xFF80, 0x8000)
    assert all(math.isnan(one) for one in from_raw("BF16", to_raw("BF16", [math.nan])))
