import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.config_values import (
    BOOLEAN,
    HEADER_NAME,
    HEADER_VALUE,
    OPTIONAL_BOOLEAN,
    OPTIONAL_PATH,
    PATH,
    PATTERN,
    PATTERNS,
    PLAIN,
    POSITIVE_NUMBER,
    SWITCHED_OFF,
    TEXT,
    choice,
    optional_whole_number,
    whole_number,
)

NUMBER = whole_number(1)
MODE = choice("prometheus", "log")
OPTIONAL_NUMBER = optional_whole_number(0)
COMMENT = "taken as 104857600; a comment needs a line of its own"


@pytest.mark.parametrize(
    ("type", "text", "value", "notes"),
    [
        (NUMBER, "1", 1, []),
        (NUMBER, "+7", 7, []),
        (NUMBER, "007", 7, []),
        (NUMBER, "2147483647", 2147483647, []),
        (NUMBER, "104857600 # 100MB", 104857600, [COMMENT]),
        (NUMBER, "104857600# 100MB", 104857600, [COMMENT]),
        (whole_number(0), "0", 0, []),
        (BOOLEAN, "true", True, []),
        (BOOLEAN, "False", False, []),
        (BOOLEAN, "TRUE # yes", True, ["taken as TRUE; a comment needs a line of its own"]),
        (TEXT, "a:b", "a:b", []),
        (TEXT, "", None, []),
        (PATH, "logs", Path("logs"), []),
        (OPTIONAL_PATH, "", None, []),
        (PATTERN, "A.*|B", re.compile("A.*|B"), []),
        (PATTERN, "", None, []),
        (MODE, "log", "log", []),
        (MODE, "Prometheus", "prometheus", []),
        (OPTIONAL_NUMBER, "", None, []),
        (OPTIONAL_NUMBER, "0", 0, []),
        (OPTIONAL_BOOLEAN, "", None, []),
        (OPTIONAL_BOOLEAN, "true", True, []),
        (SWITCHED_OFF, "", None, []),
        (SWITCHED_OFF, "true", False, []),
        (SWITCHED_OFF, "false", True, []),
        (POSITIVE_NUMBER, "0.5", 0.5, []),
        (POSITIVE_NUMBER, "60", 60.0, []),
        (PATTERNS, "", (), []),
        (PATTERNS, "https://a/.*, s3://b/.*,", ("https://a/.*", "s3://b/.*"), []),
        (HEADER_NAME, "ts_request_sequence_id", "ts_request_sequence_id", []),
        (HEADER_VALUE, "", None, []),
        (HEADER_VALUE, "GET, POST", "GET, POST", []),
        (PLAIN, "", "", []),
    ],
)
def test_text_becomes_a_value(type, text, value, notes):
    got: list[str] = []
    assert type.read(text, got) == value
    assert got == notes


@pytest.mark.parametrize(
    ("type", "text", "message"),
    [
        (NUMBER, "", "expected a whole number, at least 1"),
        (NUMBER, "abc", "expected a whole number, at least 1"),
        (NUMBER, "0", "expected a whole number, at least 1"),
        (NUMBER, "-5", "expected a whole number, at least 1"),
        (NUMBER, "1.5", "expected a whole number, at least 1"),
        (NUMBER, "1_000", "expected a whole number, at least 1"),
        (NUMBER, "١٢", "expected a whole number, at least 1"),
        (NUMBER, "100 MB", "expected a whole number, at least 1"),
        (NUMBER, "9" * 5000, "expected a whole number, at least 1"),
        (NUMBER, "2147483648", "expected at most 2147483647"),
        (BOOLEAN, "yes", "expected true or false"),
        (BOOLEAN, "1", "expected true or false"),
        (PATH, "", "expected a path"),
        (PATH, "a\0b", "expected a path"),
        (PATTERN, "(", "expected a regular expression"),
        (MODE, "zzz", "expected prometheus or log"),
        (OPTIONAL_NUMBER, "-1", "expected a whole number, at least 0"),
        (OPTIONAL_BOOLEAN, "maybe", "expected true or false"),
        (SWITCHED_OFF, "1", "expected true or false"),
        (POSITIVE_NUMBER, "", "expected a number greater than 0"),
        (POSITIVE_NUMBER, "0", "expected a number greater than 0"),
        (POSITIVE_NUMBER, "nan", "expected a number greater than 0"),
        (POSITIVE_NUMBER, "inf", "expected a number greater than 0 and less than"),
        (PATTERNS, "a,(", "expected a regular expression in place of ("),
        (HEADER_NAME, "", "expected the name of a header"),
        (HEADER_NAME, "a b", "expected the name of a header"),
        (HEADER_VALUE, "a\r\nSet-Cookie: b", "expected the value of a header"),
        (HEADER_VALUE, "é", "expected the value of a header"),
    ],
)
def test_other_text_is_refused_with_what_is_expected(type, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        type.read(text, [])


@pytest.mark.parametrize(
    "type",
    [
        NUMBER,
        BOOLEAN,
        PATH,
        PATTERN,
        MODE,
        OPTIONAL_NUMBER,
        SWITCHED_OFF,
        POSITIVE_NUMBER,
        PATTERNS,
        HEADER_NAME,
        HEADER_VALUE,
    ],
)
@given(text=st.text())
def test_any_text_is_taken_or_refused_as_a_wrong_value(type, text):
    with contextlib.suppress(ValueError):
        type.read(text, [])
