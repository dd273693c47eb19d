"""The quick way to indented JSON writes what the library writes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve_handlers.indented_json import indented

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.text(max_size=4) | st.integers() | st.booleans() | st.none() | st.floats()
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=2)
    ),
    max_leaves=25,
)


@given(TREES)
def test_the_text_is_the_librarys(item):
    text = indented(item)

    assert text is None or text == json.dumps(item, indent=2)


@pytest.mark.parametrize(
    "item",
    [
        {"digit": 3, "probabilities": {"0": 0.25, "1": 0.75}},
        [[1, 2], [], {}, "é\n", None, True, float("nan")],
        ({"a": [{"b": (1.5, "c")}]},),
        {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}},
        "text",
        7,
    ],
)
def test_what_handlers_return_takes_the_quick_way(item):
    assert indented(item) == json.dumps(item, indent=2)


class Odd(dict):
    pass


@pytest.mark.parametrize("item", [{1, 2}, b"x", Odd(a=[1]), {1: [2]}, [[[[[[[[[[1]]]]]]]]]], [{1}]])
def test_anything_else_is_left_to_the_library(item):
    assert indented(item) is None
