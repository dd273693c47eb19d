"""Queries and JSON bodies become typed values, or a refusal by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.errors import InvalidInput
from marserve.protocols.parameters import LARGEST, flag, integer, parameters, text

QUERY = {"url": "query.mar"}


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("application/json", b'{"url": "body.mar"}', {"url": "body.mar"}),
        ("Application/JSON; charset=utf-8", b'{"url": "body.mar"}', {"url": "body.mar"}),
        ("application/json", b"  ", QUERY),
        ("", b'{"url": "body.mar"}', QUERY),
        ("application/x-www-form-urlencoded", b"url=body.mar", QUERY),
    ],
)
def test_a_json_body_takes_the_place_of_the_query(content_type, body, expected):
    assert parameters(QUERY, content_type, body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"url"',
        b"null",
        b"\xff",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"url": "a", "url": "b"}',
        b"[" * 100_000,
        b'{"a": ' + b"9" * 10_000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_no_json_object_is_refused(body):
    with pytest.raises(InvalidInput, match="request body"):
        parameters({}, "application/json", body)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("7", 7), (" 7 ", 7), ("+7", 7), ("-7", -7), (7, 7), (7.0, 7), ("007", 7), (LARGEST, LARGEST)],
)
def test_a_whole_number_is_one_however_it_is_written(value, expected):
    assert integer({"n": value}, "n", at_least=None) == expected


@pytest.mark.parametrize(
    "value",
    ["", "x", "7.0", "1e3", "0x7", "1_0", "٣", 7.5, float("inf"), True, [], {}, LARGEST + 1],
)
def test_what_is_no_whole_number_is_refused_by_name(value):
    with pytest.raises(InvalidInput, match="Parameter n must be a whole number"):
        integer({"n": value}, "n", at_least=None)


@pytest.mark.parametrize(("value", "expected"), [(None, None), ("", None), ("a", "a"), (" ", " ")])
def test_an_empty_text_counts_as_not_given(value, expected):
    assert text({"t": value}, "t") == expected


@pytest.mark.parametrize("value", [7, True, [], {}])
def test_a_text_is_not_made_of_other_values(value):
    with pytest.raises(InvalidInput, match="Parameter t must be text"):
        text({"t": value}, "t")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), ("true", True), (" True", True), ("FALSE", False), (True, True), (False, False)],
)
def test_a_flag_is_true_or_false_in_any_case(value, expected):
    got = [flag({"f": value}, "f", default=default) for default in (True, False)]
    assert got == ([True, False] if expected is None else [expected] * 2)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none()))
def test_any_value_is_read_or_refused(value):
    for read in (
        lambda: integer({"v": value}, "v", at_least=0),
        lambda: text({"v": value}, "v"),
        lambda: flag({"v": value}, "v", default=False),
    ):
        try:
            got = read()
        except InvalidInput:
            continue
        assert got is None or isinstance(got, int | str)
