import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from marserve.errors import ConfigInvalid
from marserve.properties import Property, dump, parse, substitute

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n \t\f\n", []),
        ("# one\n! two\n   # three\n", []),
        ("a=b", [("a", "b", 1)]),
        ("a:b", [("a", "b", 1)]),
        ("a b", [("a", "b", 1)]),
        ("a\tb", [("a", "b", 1)]),
        ("  a  =  b  ", [("a", "b  ", 1)]),
        ("a = : b", [("a", ": b", 1)]),
        ("a", [("a", "", 1)]),
        ("a=", [("a", "", 1)]),
        ("=b", [("", "b", 1)]),
        ("a=b=c:d", [("a", "b=c:d", 1)]),
        ("a=b # no comment", [("a", "b # no comment", 1)]),
        ("a\\=b\\ c=d", [("a=b c", "d", 1)]),
        ("a\\:b=c", [("a:b", "c", 1)]),
        ("\\#a=b", [("#a", "b", 1)]),
        ("a=b\\\n   c", [("a", "bc", 1)]),
        ("a=b\\\r\n\tc\r\nd=e", [("a", "bc", 1), ("d", "e", 3)]),
        ("a=b\\\\\nc=d", [("a", "b\\", 1), ("c", "d", 2)]),
        ("a=b\\\\\\\nc=d", [("a", "b\\c=d", 1)]),
        ("a=b\\\n# c", [("a", "b# c", 1)]),
        ("a=b\\\n\nc=d", [("a", "b", 1), ("c", "d", 3)]),
        ("# no continuation \\\na=b", [("a", "b", 2)]),
        ("a=b\\", [("a", "b", 1)]),
        ("a\rb\r\nc\nd", [("a", "", 1), ("b", "", 2), ("c", "", 3), ("d", "", 4)]),
        ("a=\\t\\n\\r\\f\\q\\\\", [("a", "\t\n\r\fq\\", 1)]),
        ("a=\\u00e9\\u20AC", [("a", "é€", 1)]),
        ("a=\\ud83d\\ude00", [("a", "😀", 1)]),
        ("\\u0061=b", [("a", "b", 1)]),
        ("a=b\x0bc\x85d\u2028e", [("a", "b\x0bc\x85d\u2028e", 1)]),
        ("a=1\na=2", [("a", "1", 1), ("a", "2", 2)]),
        (
            'm={\\\n  "x": {\\\n    "1.0": {}}}\nn=1',
            [("m", '{"x": {"1.0": {}}}', 1), ("n", "1", 4)],
        ),
    ],
)
def test_a_file_means_what_java_says_it_means(text, expected):
    assert parse(text) == [Property(*entry) for entry in expected]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=1\nb=\\u12", "line 2: \\u must be followed by four hexadecimal digits"),
        ("a=\\uzzzz", "line 1: \\u must be followed by four hexadecimal digits"),
        ("a=\\ud83d", "line 1: a \\u escape is half of a surrogate pair"),
    ],
)
def test_a_malformed_escape_names_its_line(text, message):
    with pytest.raises(ConfigInvalid) as caught:
        parse(text)
    assert caught.value.message == message


@given(st.lists(st.tuples(TEXT, TEXT)))
@example([("", "")])
@example([(" a\\", " \t b \\")])
@example([("#", "!"), ("a\nb", "c\r\nd")])
def test_what_is_dumped_is_read_back(entries):
    assert [(p.key, p.value) for p in parse(dump(entries))] == entries


@given(TEXT)
def test_any_text_is_parsed_or_refused(text):
    with contextlib.suppress(ConfigInvalid):
        lines = [entry.line for entry in parse(text)]
        assert lines == sorted(lines)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://0.0.0.0:$$PORT$$", "http://0.0.0.0:8080"),
        ("$$A$$$$PORT$$", "$$PORT$$8080"),
        ("$$A", "$$A"),
        ("$A$ $$ $$", "$A$ $$ $$"),
        ("a|b$$", "a|b$$"),
    ],
)
def test_variables_are_replaced_once(value, expected):
    assert substitute(value, {"PORT": "8080", "A": "$$PORT$$"}) == expected


def test_an_unset_variable_is_named():
    with pytest.raises(ConfigInvalid, match="the environment variable STORE is not set"):
        substitute("$$STORE$$/models", {"OTHER": "x"})
