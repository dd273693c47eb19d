"""What the items of a batch look like to a handler."""

import pytest

from marserve.workers.messages import BatchItem, BatchPart
from marserve.workers.rows import cut, headers, rows


def item(id_="1", *parts, **fields):
    given = {"headers": [], "explain": None, "url_path": None} | fields
    return BatchItem(id=id_, parts=list(parts), **given)


JSON = BatchPart("body", "application/json", 8)
RAW = BatchPart("file", "", 3)


def test_each_item_gets_its_own_share_of_the_bytes():
    items = [item("1", JSON, RAW), item("2", RAW)]
    buffers = memoryview(b'{"a": 1}abcxyz')

    assert rows(items, buffers, decode=True) == [
        {"body": {"a": 1}, "file": bytearray(b"abc")},
        {"file": bytearray(b"xyz")},
    ]
    assert [bytes(share) for share in cut(items, buffers)] == [b'{"a": 1}abc', b"xyz"]


def test_without_decoding_everything_is_bytes():
    assert rows([item("1", JSON)], memoryview(b'{"a": 1}'), decode=False) == [
        {"body": bytearray(b'{"a": 1}')}
    ]


def test_an_item_that_the_handler_knows_has_an_empty_row():
    assert rows([item("1", cached=True)], memoryview(b""), decode=True) == [{}]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, {}),
        ({"explain": False}, {"explain": "False"}),
        ({"explain": True, "url_path": ""}, {"explain": "True", "url_path": ""}),
        ({"url_path": "a/b"}, {"url_path": "a/b"}),
        ({"describe": True}, {"describe": "True"}),
        ({"headers": [("X-A", "1"), ("X-A", "2"), ("x-a", "3")]}, {"X-A": "2", "x-a": "3"}),
    ],
)
def test_headers_say_what_the_route_and_the_client_said(fields, told):
    assert (
        headers(item("1", JSON, **fields)) == {"body": {"content-type": "application/json"}} | told
    )
