"""What the last nodes of a workflow answered, as one body."""

import pytest

from marserve.errors import HandlerFailed
from marserve.pipelines.results import joined


def test_one_result_is_left_as_it_is():
    assert joined({"a": b"\xff raw"}) == b"\xff raw"


def test_several_results_are_an_object_in_their_order():
    body = joined({"b": b'{"x": [1, 2.50]}', "a": '"é"'.encode()})
    assert (
        body
        == '{\n  "b": {\n    "x": [\n      1,\n      2.5\n    ]\n  },\n  "a": "é"\n}\n'.encode()
    )


@pytest.mark.parametrize("text", ["plain", "", "NaN", "-Infinity", "1e999", "{", "[" * 100_000])
def test_a_result_of_several_that_is_no_json_is_a_string(text):
    import json

    assert json.loads(joined({"a": text.encode(), "b": b"1"})) == {"a": text, "b": 1}


def test_a_result_of_several_that_is_not_even_text_is_an_error_that_names_it():
    with pytest.raises(HandlerFailed, match="Error executing a: ") as caught:
        joined({"a": b"\xff", "b": b"1"})
    assert caught.value.status == 500
