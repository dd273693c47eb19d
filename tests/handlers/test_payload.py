import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve_handlers.errors import UnsupportedOutput
from marserve_handlers.payload import Part, decode_row, encode_item


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("application/json", b'{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        ("application/json; charset=utf-8", b"[1]", [1]),
        ("application/json ;x=y", b"3", 3),
        ("application/json", b"", bytearray()),
        ("application/json", b"{broken", bytearray(b"{broken")),
        ("application/json", b'"\xff"', bytearray(b'"\xff"')),
        ("application/json", b"[" * 100_000, bytearray(b"[" * 100_000)),
        ("application/json", b"1" * 5000, bytearray(b"1" * 5000)),
        ("APPLICATION/JSON", b"[1]", bytearray(b"[1]")),
        ("application/json+x", b"[1]", bytearray(b"[1]")),
        ("text/plain", "é".encode(), "é"),
        ("text/csv; charset=latin-1", b"1,2", "1,2"),
        ("text/plain", b"", ""),
        ("text/plain", b"\xff\xfe", bytearray(b"\xff\xfe")),
        ("", b"raw", bytearray(b"raw")),
        ("application/octet-stream", b"\x00", bytearray(b"\x00")),
        ("image/png", memoryview(b"png"), bytearray(b"png")),
        ("application/json", memoryview(b"[1]"), [1]),
        ("text/plain", bytearray(b"t"), "t"),
    ],
)
def test_the_content_type_decides_what_a_part_becomes(content_type, body, value):
    row = decode_row([Part("body", content_type, body)])
    assert row == {"body": value}
    assert type(row["body"]) is type(value)


def test_without_decoding_every_value_is_a_bytearray():
    parts = [Part("a", "application/json", b"[1]"), Part("b", "text/plain", b"t")]
    assert decode_row(parts, decode=False) == {"a": bytearray(b"[1]"), "b": bytearray(b"t")}


def test_the_last_part_of_a_name_wins():
    assert decode_row([Part("a", "", b"1"), Part("b", "", b"2"), Part("a", "text/x", b"3")]) == {
        "a": "3",
        "b": bytearray(b"2"),
    }


def test_no_parts_are_an_empty_row():
    assert decode_row([]) == {}


@given(st.text(max_size=20), st.binary(max_size=60), st.booleans())
def test_any_part_can_be_decoded(content_type, body, decode):
    for prefix in ("", "application/json;", "text/"):
        row = decode_row([Part("p", prefix + content_type, body)], decode)
        assert list(row) == ["p"]


@pytest.mark.parametrize(
    ("item", "body"),
    [
        (b"raw", b"raw"),
        (bytearray(b"raw"), b"raw"),
        ("é", "é".encode()),
        ("", b""),
        (None, b"null"),
        (True, b"true"),
        (3, b"3"),
        (float("nan"), b"NaN"),
        ({"a": 1, "u": "é<>&"}, b'{\n  "a": 1,\n  "u": "\\u00e9<>&"\n}'),
        ([1, 2], b"[\n  1,\n  2\n]"),
        ((1, 2), b"[\n  1,\n  2\n]"),
        ({1: "x"}, b'{\n  "1": "x"\n}'),
        ({}, b"{}"),
        ([], b"[]"),
        ([[1]], b"[\n  [\n    1\n  ]\n]"),
        (np.float32(0.5), b"0.5"),
        (np.int64(7), b"7"),
        (np.array([1, 2]), b"[\n  1,\n  2\n]"),
        ({"p": np.array([0.5])}, b'{\n  "p": [\n    0.5\n  ]\n}'),
        ({"p": np.bool_(True)}, b'{\n  "p": true\n}'),
    ],
)
def test_a_result_has_one_body(item, body):
    encoded = encode_item(item)
    assert encoded == body
    assert type(encoded) is bytes


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers() | st.booleans() | st.none(), inner)
        | st.tuples(inner, inner)
    ),
)


@given(json_values)
def test_json_is_what_the_standard_library_writes_with_indent_2(value):
    if isinstance(value, str):
        value = [value]
    assert encode_item(value) == json.dumps(value, indent=2).encode()


@pytest.mark.parametrize(
    ("item", "names"),
    [
        ({1, 2}, "set"),
        (memoryview(b"x"), "memoryview"),
        ({"a": b"x"}, "bytes"),
        (object(), "object"),
        ({(1, 2): 3}, "keys must be"),
        ([np.array([1j])], "complex"),
        ("\ud800", "UTF-8"),
    ],
)
def test_what_has_no_bytes_is_refused_with_the_reason(item, names):
    with pytest.raises(UnsupportedOutput) as caught:
        encode_item(item)
    assert str(caught.value).startswith("Unsupported model output data type. ")
    assert names in str(caught.value)


def test_a_circular_or_bottomless_result_is_refused():
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(UnsupportedOutput):
        encode_item(circle)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UnsupportedOutput):
        encode_item(deep)


def test_a_tensor_class_is_recognised_only_when_torch_is_imported(monkeypatch):
    class FakeTorch:
        class Tensor:
            pass

        @staticmethod
        def save(tensor, buffer):
            buffer.write(b"saved")

    monkeypatch.setitem(sys.modules, "torch", FakeTorch)
    assert encode_item(FakeTorch.Tensor()) == b"saved"
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(UnsupportedOutput):
        encode_item(FakeTorch.Tensor())
