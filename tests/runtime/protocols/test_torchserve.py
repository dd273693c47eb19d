"""TorchServe's inference API: what bodies, queries and headers become."""

import time
import tracemalloc
from urllib.parse import parse_qsl

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from marserve.errors import InvalidInput
from marserve.protocols.torchserve import (
    is_misread,
    parts,
    query_parts,
    seen_headers,
    text_of,
    with_query,
)

FORM = b"application/x-www-form-urlencoded"
MULTIPART = b"multipart/form-data; boundary=XX"


def multipart(*fields):
    """A body with these parts, each a head (without its last line break) and its bytes."""
    made = b"".join(b"--XX\r\n" + lines + b"\r\n\r\n" + body + b"\r\n" for lines, body in fields)
    return made + b"--XX--\r\n"


def disposition(parameters, *more):
    return b"\r\n".join([b"Content-Disposition: form-data; " + parameters, *more])


# --- bodies that are one part ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        (b"application/json", "application/json"),
        (b"application/json; charset=utf-8", "application/json"),
        (b"application/json ;charset=utf-8", "application/json"),
        (b"APPLICATION/JSON", "APPLICATION/JSON"),  # the worker compares the case, as TorchServe
        (b"text/plain", "text/plain"),
        (b"text/csv;header=present", "text/csv"),
        (b"image/jpeg", "image/jpeg"),
        (b"", ""),
        (b"  ", ""),
        (b";", ""),
        (b"multipart/form-data", "multipart/form-data"),
        (b"multipart/form-data; charset=x", "multipart/form-data"),
        (b"multipart/form-data; boundary=", "multipart/form-data"),
        (b'multipart/form-data; boundary=""', "multipart/form-data"),
        (b"multipart/mixed; boundary=XX", "multipart/mixed"),
        (b"application/x-\xe9", "application/x-\u00e9"),
    ],
)
@pytest.mark.parametrize("body", [b"", b"12345", b"\x00\xff", b"--XX--"])
def test_a_raw_body_is_one_part_with_its_own_bytes(content_type, kind, body):
    assert parts(content_type, body) == [("body", kind, body)]


# --- forms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [FORM, FORM.upper(), FORM + b"; charset=utf-8"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", {}),
        (b"x=1", {"x": b"1"}),
        (b"x=1&y=2", {"x": b"1", "y": b"2"}),
        (b"x=1&x=2&x=3", {"x": b"3"}),
        (b"x=", {"x": b""}),
        (b"=1", {"": b"1"}),
        (b"x=a+b%20c", {"x": b"a b c"}),
        (b"x=%00%ff", {"x": b"\x00\xff"}),
        (b"x=\xff\xfe", {"x": b"\xff\xfe"}),
        (b"x=%zz", {"x": b"%zz"}),
        (b"x=a=b", {"x": b"a=b"}),
        (b"x=1;y=2", {"x": b"1;y=2"}),
        (b"&&x=1&&", {"x": b"1"}),
        (b"body=1", {"body": b"1"}),
        (b"plain", {}),
        (b"plain&x=1", {"x": b"1"}),
        (b'{"a": 1}', {}),
        (b'{"a": "b=c"}', {'{"a": "b': b'c"}'}),
        (b"n%20m=1", {"n m": b"1"}),
        (b"%C3%A9=1", {"\u00e9": b"1"}),
        (b"\xc3\xa9=%C3%A9", {"\u00e9": b"\xc3\xa9"}),
        (b"%ff=1", {"\ufffd": b"1"}),
    ],
)
def test_an_urlencoded_form_gives_a_part_per_field(content_type, body, expected):
    assert parts(content_type, body) == [(name, "", value) for name, value in expected.items()]


def test_the_last_of_a_name_wins_in_the_place_of_the_first():
    assert parts(FORM, b"x=1&y=2&x=3") == [("x", "", b"3"), ("y", "", b"2")]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param([], [], id="no part"),
        pytest.param(
            [(disposition(b'name="a"'), b"1")],
            [("a", "", b"1")],
            id="a field",
        ),
        pytest.param(
            [(disposition(b'name="a"', b"Content-Type: application/json"), b"{}")],
            [("a", "", b"{}")],
            id="a field keeps no content type",
        ),
        pytest.param(
            [(disposition(b'name="a"; filename="f"', b"Content-Type: application/json"), b"{}")],
            [("a", "application/json", b"{}")],
            id="a file",
        ),
        pytest.param(
            [(disposition(b'name="a"; filename="f"', b"Content-Type: text/x; charset=y"), b"t")],
            [("a", "text/x", b"t")],
            id="a file's content type without parameters",
        ),
        pytest.param(
            [(disposition(b'name="a"; filename="f"'), b"\x00\xff\r\n")],
            [("a", "application/octet-stream", b"\x00\xff\r\n")],
            id="a file without content type is binary",
        ),
        pytest.param(
            [(disposition(b'name="a"; filename=""'), b"x")],
            [("a", "application/octet-stream", b"x")],
            id="an empty file name is one",
        ),
        pytest.param(
            [
                (disposition(b'name="a"'), b"1"),
                (disposition(b'name="b"'), b"2"),
                (disposition(b'name="a"; filename="f"', b"Content-Type: text/plain"), b"3"),
            ],
            [("a", "text/plain", b"3"), ("b", "", b"2")],
            id="the last of a name wins",
        ),
        pytest.param(
            [(disposition(b'name="a"'), b""), (disposition(b'name="b"; filename="f"'), b"")],
            [("a", "", b""), ("b", "application/octet-stream", b"")],
            id="empty parts",
        ),
        pytest.param(
            [(b'content-disposition: form-data; NAME="a"', b"--X\r\n--Y")],
            [("a", "", b"--X\r\n--Y")],
            id="almost a boundary",
        ),
        pytest.param(
            [(disposition('name="\u00e9"'.encode()), b"1")],
            [("\u00e9", "", b"1")],
            id="a name in utf-8",
        ),
        pytest.param(
            [(disposition(b'name="a\\"b"'), b"1")],
            [('a"b', "", b"1")],
            id="a quote in a name",
        ),
        pytest.param(
            [(disposition(b'name="body"'), b"1")],
            [("body", "", b"1")],
            id="a part called body",
        ),
        pytest.param(
            [(disposition(b'name=""'), b"1")],
            [("", "", b"1")],
            id="an empty name",
        ),
    ],
)
def test_a_multipart_form_gives_a_part_per_name(fields, expected):
    assert parts(MULTIPART, multipart(*fields)) == expected


@pytest.mark.parametrize(
    "content_type",
    [
        b'multipart/form-data; boundary="XX"',
        b"Multipart/Form-Data; Boundary=XX",
        b"multipart/form-data;boundary=XX;charset=utf-8",
        b"multipart/form-data; charset=utf-8; boundary=XX",
        b"multipart/form-data; boundary = XX",
        b"multipart/form-data; notboundary=YY; boundary=XX",
    ],
)
def test_the_boundary_is_found_however_it_is_written(content_type):
    assert parts(content_type, multipart((disposition(b'name="a"'), b"1"))) == [("a", "", b"1")]


def test_a_large_part_keeps_every_byte():
    body = bytes(range(256)) * 2000 + b"\r\n--X\r\n--XXX"

    assert parts(MULTIPART, multipart((disposition(b'name="a"; filename="f"'), body))) == [
        ("a", "application/octet-stream", body)
    ]


GOOD = multipart((disposition(b'name="a"'), b"1"))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no boundary at all", id="no boundary"),
        pytest.param(GOOD[:-6], id="cut before the last boundary"),
        pytest.param(GOOD[:20], id="cut in the head of a part"),
        pytest.param(GOOD.replace(b"XX", b"YY"), id="another boundary"),
        pytest.param(multipart((b"Content-Type: text/plain", b"1")), id="no disposition"),
        pytest.param(multipart((b"", b"1")), id="no head"),
        pytest.param(multipart((disposition(b'filename="f"'), b"1")), id="a file without a name"),
        pytest.param(multipart((b"Content-Disposition: form-data", b"1")), id="no name"),
        pytest.param(multipart((b"Content-Disposition:", b"1")), id="an empty disposition"),
        pytest.param(multipart((disposition(b'name="\xff"'), b"1")), id="a name that is not utf-8"),
    ],
)
def test_a_multipart_body_that_is_none_is_refused(body):
    with pytest.raises(InvalidInput):
        parts(MULTIPART, body)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, b"&".join([b"x=1"] * 1001)),
        (FORM, b"&" * 5000),
        (MULTIPART, multipart(*[(disposition(b'name="a"'), b"1")] * 1001)),
    ],
)
def test_a_form_of_too_many_parts_is_refused(content_type, body):
    with pytest.raises(InvalidInput, match="The form has more than 1000"):
        parts(content_type, body)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, b"&".join(b"x%d=1" % n for n in range(1000))),
        (MULTIPART, multipart(*[(disposition(b'name="%d"' % n), b"1") for n in range(1000)])),
    ],
)
def test_a_form_of_a_thousand_parts_is_taken(content_type, body):
    assert len(parts(content_type, body)) == 1000


content_types = st.one_of(
    st.sampled_from([FORM, MULTIPART, b"multipart/form-data; boundary=-", b"application/json"]),
    st.binary(max_size=40),
    st.binary(max_size=20).map(lambda rest: b"multipart/form-data; boundary=" + rest),
)
pieces = st.sampled_from(
    [
        b"--XX\r\n", b"--XX--", b"\r\n--XX", b"--XX", b"\r\n", b"\r\n\r\n", b"\n\n", b"\r", b"--",
        b"Content-Disposition: form-data; ", b'name="a"', b"; filename=f", b"name*=utf-8''%ff",
        b"name*0=a; name*1=b", b"Content-Type: text/plain", b"Content-Type:", b"\xff", b"a=b&",
        b":", b' name="', b"\x00", b"\r\n ", b"--XX\r\nContent-Disposition: form-data; ",
        b"\r\n\r\n1\r\n--XX--",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    content_types, st.one_of(st.binary(max_size=80), st.lists(pieces, max_size=14).map(b"".join))
)
def test_any_body_makes_parts_or_is_refused(content_type, body):
    try:
        made = parts(content_type, body)
    except InvalidInput:
        return
    for name, kind, data in made:
        assert type(name) is str
        assert type(kind) is str
        assert type(data) is bytes
    assert len({name for name, _, _ in made}) == len(made)


fields = st.lists(
    st.tuples(
        st.text(
            st.characters(codec="utf-8", exclude_characters='"\\\r\n%', exclude_categories="C")
        ),
        st.none() | st.sampled_from(["image/png", "text/plain"]),
        st.binary(max_size=50).filter(lambda data: b"--XX" not in data),
    ),
    max_size=5,
)


@given(fields)
def test_what_a_client_puts_into_a_multipart_form_arrives(sent):
    body = multipart(
        *[
            (disposition(f'name="{name}"'.encode()), data)
            if kind is None
            else (
                disposition(
                    f'name="{name}"; filename="f"'.encode(), b"Content-Type: %s" % kind.encode()
                ),
                data,
            )
            for name, kind, data in sent
        ]
    )

    assert {name: (kind, data) for name, kind, data in parts(MULTIPART, body)} == {
        name: (kind or "", data) for name, kind, data in sent
    }


# --- queries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", {}),
        (b"x=1&y=2", {"x": b"1", "y": b"2"}),
        (b"x=1&x=2", {"x": b"2"}),
        (b"x=", {"x": b""}),
        (b"x", {"x": b""}),
        (b"x=a+b%20c%ff", {"x": b"a b c\xff"}),
        (b"%C3%A9=1", {"\u00e9": b"1"}),
        (b"&&", {}),
    ],
)
def test_a_query_gives_a_part_per_parameter(query, expected):
    assert query_parts(query) == [(name, "", value) for name, value in expected.items()]


def test_a_query_of_too_many_parameters_is_refused():
    assert len(query_parts(b"&".join(b"x%d=1" % n for n in range(1000)))) == 1000
    with pytest.raises(InvalidInput, match="The query has more than 1000 parameters"):
        query_parts(b"x=1&" * 1001)


def test_the_parts_of_a_query_come_first_and_those_of_the_body_win():
    query, body = query_parts(b"a=1&body=2"), parts(b"text/plain", b"3")

    assert with_query(query, body) == [("a", "", b"1"), ("body", "text/plain", b"3")]
    assert with_query(query, []) == query


@pytest.mark.parametrize(
    ("name", "expected"), [("a", "1"), ("empty", None), ("absent", None), ("odd", "\ufffd")]
)
def test_a_part_can_be_read_as_text(name, expected):
    row = [("a", "", b"1"), ("empty", "", b""), ("odd", "", b"\xff")]

    assert text_of(row, name) == expected


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        (FORM, b'{"a": 1}', True),
        (FORM, b'{"a": "b=c"}', True),
        (FORM.upper() + b"; charset=utf-8", b"plain", True),
        (FORM, b"", True),
        (FORM, b"x=1", False),
        (b"application/json", b'{"a": 1}', False),
        (MULTIPART, b"--XX--\r\n", False),
    ],
)
def test_what_curl_sends_by_itself_is_recognised(content_type, body, expected):
    assert is_misread(content_type, parts(content_type, body)) is expected


# --- headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ([], [("content-length", "7")]),
        ([("Content-Length", "5")], [("Content-Length", "5")]),
        (
            [("Host", "h"), ("Transfer-Encoding", "chunked"), ("X-Odd", "V")],
            [("Host", "h"), ("X-Odd", "V"), ("content-length", "7")],
        ),
        ([("expect", "100-continue"), ("content-length", "5")], [("content-length", "5")]),
    ],
)
def test_a_handler_sees_no_header_about_transport_but_always_a_length(sent, seen):
    assert seen_headers(sent, 7) == seen


@given(st.lists(st.binary(max_size=200_000), max_size=4), st.integers(0, 70_000))
@settings(max_examples=30, deadline=None)
def test_a_form_is_read_the_same_wherever_its_parts_lie(values, shift):
    """Large ones are read in pieces, and a boundary may lie across two of them."""
    preamble = b"p" * shift + b"\r\n" if shift else b""
    body = preamble + b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%d"\r\n\r\n%s\r\n' % (number, value)
        for number, value in enumerate(values)
        if b"\r\n--b" not in value
    )
    found = parts(b"multipart/form-data; boundary=b", body + b"--b--\r\n")
    assert [(name, value) for name, _, value in found] == [
        (str(number), value) for number, value in enumerate(values) if b"\r\n--b" not in value
    ]


@given(st.lists(st.sampled_from([b"%", b"=", b"&", b"+", b"4", b"a", b"F", b"\n", b"\r", b"\xe9"])))
@example([b"%"] * 3)
@settings(max_examples=400, deadline=None)
def test_escapes_mean_what_they_mean_to_the_standard_library(pieces):
    encoded = b"".join(pieces)
    pairs = parse_qsl(encoded.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    expected = {name.encode("latin-1").decode("utf-8", "replace"): value for name, value in pairs}
    found = query_parts(encoded)
    assert {name: value.decode("latin-1") for name, _, value in found} == expected


def test_a_form_of_nothing_but_escapes_holds_nobody_up():
    """F41: this took the loop of a server half a second."""
    body = b"a=" + b"%41" * (2 << 20)
    began = time.process_time()
    assert parts(FORM, body) == [("a", "", b"A" * (2 << 20))]
    assert time.process_time() - began < 0.25


PIECES = st.sampled_from([b"%", b"4", b"1", b"+", b"&", b"=", b"%e9", b"a"])


@given(st.binary(max_size=40) | st.lists(PIECES).map(b"".join))
def test_a_query_is_read_as_the_library_reads_it(query):
    """SEC-13: the library is not used because it takes sixty times the memory of the text."""
    wanted = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    found = {
        name.encode("latin-1").decode("utf-8", "replace"): value.encode("latin-1")
        for name, value in wanted
    }

    assert {name: value for name, _, value in query_parts(query)} == found


def test_the_memory_that_a_form_of_escapes_takes_is_bounded():
    for escape in (b"%", b"%4", b"%zz", b"+"):
        body = b"a=" + escape * (1_000_000 // len(escape))
        tracemalloc.start()
        parts(FORM, body)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak_bytes < 16 * len(body), escape
