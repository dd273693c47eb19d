import pytest

from marserve_handlers.passthrough import Passthrough
from marserve_handlers.testing import run_handler


@pytest.mark.parametrize(
    ("row", "body"),
    [
        ({"body": bytearray(b"\x00\xff")}, b"\x00\xff"),
        ({"data": "text"}, b"text"),
        ({"body": [1]}, b"[\n  1\n]"),
        ({}, b"{}"),
        ({"a": bytearray(b"x"), "body": 1}, b'{\n  "a": "x",\n  "body": 1\n}'),
        ({"a": bytearray(b"\xff")}, b'{\n  "a": {\n    "b64": "/w=="\n  }\n}'),
    ],
)
def test_a_request_is_answered_with_itself(row, body):
    assert [result.body for result in run_handler(Passthrough, [row])] == [body]


@pytest.mark.parametrize("name", ["passthrough", "echo"])
def test_it_is_found_under_both_names(name):
    assert [result.body for result in run_handler(name, [b"1", b"2"])] == [b"1", b"2"]
