"""TorchServe's inference API: what a body becomes, and what the head of an answer looks like."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marserve.errors import HandlerFailed, InvalidInput
from marserve.protocols.torchserve import answer_head, head, parts, plain_head
from marserve.request import Answer

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


# --- answers --------------------------------------------------------------------------------------

NO_CACHE = (
    "Pragma: no-cache\r\n"
    "Cache-Control: no-cache; no-store, must-revalidate, private\r\n"
    "Expires: Thu, 01 Jan 1970 00:00:00 UTC\r\n"
)


@pytest.mark.parametrize(("keep_alive", "connection"), [(True, "keep-alive"), (False, "close")])
def test_the_head_of_an_ordinary_answer(keep_alive, connection):
    assert plain_head("id-1", 32, keep_alive).decode() == (
        "HTTP/1.1 200 OK\r\nx-request-id: id-1\r\n"
        + NO_CACHE
        + f"content-length: 32\r\nconnection: {connection}\r\n\r\n"
    )


def test_an_answer_with_nothing_special_has_the_ordinary_head():
    assert answer_head(Answer(b"12345"), "id-1", True) == plain_head("id-1", 5, True)
    assert answer_head(Answer(b"12345", headers=[]), "id-1", True) == plain_head("id-1", 5, True)


def test_headers_of_the_handler_come_first_and_as_it_spelled_them():
    answer = Answer(b"1", 201, None, [("content-type", "text/plain"), ("X-Odd", "\xe9\tz")])

    assert answer_head(answer, "id-1", False) == (
        "HTTP/1.1 201 Created\r\ncontent-type: text/plain\r\nX-Odd: \xe9\tz\r\n"
        "x-request-id: id-1\r\n" + NO_CACHE + "content-length: 1\r\nconnection: close\r\n\r\n"
    ).encode("latin-1")


@pytest.mark.parametrize(
    "name",
    [
        "x-request-id", "Pragma", "Cache-Control", "Expires", "content-length", "Connection",
        "Transfer-Encoding", "Keep-Alive", "Upgrade", "Trailer", "TE",
    ],
)  # fmt: skip
@pytest.mark.parametrize("spell", [str, str.lower, str.upper])
def test_a_header_that_is_the_server_s_is_dropped(name, spell):
    answer = Answer(b"1", headers=[(spell(name), "handler's\r\nInjected: 1"), ("x", "y")])

    assert answer_head(answer, "id-1", True) == answer_head(
        Answer(b"1", headers=[("x", "y")]), "id-1", True
    )


@pytest.mark.parametrize(
    ("status", "phrase", "line"),
    [
        (200, None, b"HTTP/1.1 200 OK\r\n"),
        (200, "", b"HTTP/1.1 200 \r\n"),
        (200, "Fine", b"HTTP/1.1 200 Fine\r\n"),
        (404, None, b"HTTP/1.1 404 Not Found\r\n"),
        (299, None, b"HTTP/1.1 299 \r\n"),
        (599, "x", b"HTTP/1.1 599 x\r\n"),
        (418, "caf\xe9", b"HTTP/1.1 418 caf\xe9\r\n"),
    ],
)
def test_status_and_phrase_are_the_handler_s(status, phrase, line):
    made = answer_head(Answer(b"body", status, phrase), "id-1", True)

    assert made.startswith(line)
    assert b"content-length: 4\r\n" in made


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_body_announces_no_length(status):
    made = answer_head(Answer(b"ignored", status), "id-1", True)

    assert b"content-length" not in made
    assert made.endswith(b"connection: keep-alive\r\n\r\n")


@pytest.mark.parametrize("status", [-1, 0, 100, 101, 199, 600, 1000, 20000])
def test_a_status_that_breaks_the_exchange_is_the_handler_s_failure(status):
    with pytest.raises(HandlerFailed, match=f"The handler chose the HTTP status {status}"):
        answer_head(Answer(b"", status), "id-1", True)


@pytest.mark.parametrize("phrase", ["a\r\nb", "a\nb", "\x00", "\x7f", "\u20ac", "x" * 257])
def test_a_phrase_that_http_cannot_carry_is_the_handler_s_failure(phrase):
    with pytest.raises(HandlerFailed, match="reason phrase"):
        answer_head(Answer(b"", 200, phrase), "id-1", True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "a\r\nInjected: 1"),
        ("X", "a\nInjected: 1"),
        ("X", "a\rb"),
        ("X", "a\x00b"),
        ("X", "\x7f"),
        ("X", "\u20ac"),
        ("X", "v" * 8193),
        ("X\r\nInjected", "1"),
        ("X: 1\r\nY", "1"),
        ("", "1"),
        ("X Y", "1"),
        ("X:", "1"),
        ("Content-Length ", "1"),
        (" Content-Length", "1"),
        ("\xe9", "1"),
        ("X" * 129, "1"),
    ],
)
def test_a_header_that_http_cannot_carry_is_the_handler_s_failure(name, value):
    with pytest.raises(HandlerFailed, match="that HTTP cannot carry"):
        answer_head(Answer(b"", headers=[(name, value)]), "id-1", True)


def test_a_handler_may_set_many_headers_but_not_any_number():
    headers = [(f"x-{number}", "v") for number in range(65)]

    assert answer_head(Answer(b"", headers=headers[:64]), "id-1", True).count(b"x-") == 64 + 1
    with pytest.raises(HandlerFailed, match="more than 64 headers"):
        answer_head(Answer(b"", headers=headers), "id-1", True)


@settings(max_examples=300)
@given(
    st.integers(-10, 1010),
    st.none() | st.text(max_size=12),
    st.none() | st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), max_size=4),
)
def test_a_head_says_exactly_what_the_handler_set_or_is_refused(status, phrase, headers):
    try:
        made = answer_head(Answer(b"12", status, phrase, headers), "id-1", True)
    except HandlerFailed:
        return
    assert made.endswith(b"\r\n\r\n")
    first, *lines = made[:-4].decode("latin-1").split("\r\n")
    assert "\r" not in "".join(lines)
    assert "\n" not in "".join(lines)
    assert first.startswith(f"HTTP/1.1 {status} ")
    got = [tuple(line.split(": ", 1)) for line in lines]
    handlers = [header for header in headers or [] if header[0].lower() not in SERVERS]
    assert got[: len(handlers)] == handlers
    assert {name.lower() for name, _ in got[len(handlers) :]} <= SERVERS


SERVERS = {
    "cache-control", "connection", "content-length", "expires", "keep-alive", "pragma", "te",
    "trailer", "transfer-encoding", "upgrade", "x-request-id",
}  # fmt: skip


def test_the_head_of_an_error_has_its_content_type_first():
    made = head(404, [("content-type", "application/json")], "id-1", 94, False)

    assert made.decode() == (
        "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\nx-request-id: id-1\r\n"
        + NO_CACHE
        + "content-length: 94\r\nconnection: close\r\n\r\n"
    )
