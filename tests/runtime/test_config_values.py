import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.config_values import (
    BOOLEAN,
    OPTIONAL_PATH,
    PATH,
    PATTERN,
    PROMETHEUS,
    TEXT,
    Address,
    address,
    whole_number,
)

NUMBER = whole_number(1)
INFERENCE = address(8080)
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
        (PROMETHEUS, "prometheus", "prometheus", []),
        (PROMETHEUS, "log", "prometheus", ["the metrics endpoint always speaks Prometheus"]),
        (PROMETHEUS, "legacy", "prometheus", ["the metrics endpoint always speaks Prometheus"]),
        (INFERENCE, "http://127.0.0.1:9000", Address("127.0.0.1", 9000), []),
        (INFERENCE, "http://127.0.0.1", Address("127.0.0.1", 8080), []),
        (INFERENCE, "http://127.0.0.1:9000/", Address("127.0.0.1", 9000), []),
        (INFERENCE, "http://localhost:0", Address("127.0.0.1", 0), []),
        (INFERENCE, "http://[::1]:9000", Address("::1", 9000), []),
        (INFERENCE, "http://[::]", Address("::", 8080), []),
        (INFERENCE, "HTTP://0.0.0.0:65535", Address("0.0.0.0", 65535), []),
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
        (PATH, "", "expected the path of a directory"),
        (PATH, "a\0b", "expected the path of a directory"),
        (PATTERN, "(", "expected a regular expression"),
        (PROMETHEUS, "zzz", "expected prometheus"),
        (INFERENCE, "https://127.0.0.1:8443", "this version does not speak TLS"),
        (INFERENCE, "unix:/tmp/sock", "this version does not listen on unix sockets"),
        (INFERENCE, "foo", "expected http://HOST[:PORT]"),
        (INFERENCE, "", "expected http://HOST[:PORT]"),
        (INFERENCE, "127.0.0.1:8080", "expected http://HOST[:PORT]"),
        (INFERENCE, "http://", "expected http://HOST[:PORT]"),
        (INFERENCE, "http://:8080", "expected http://HOST[:PORT]"),
        (INFERENCE, "http://127.0.0.1:65536", "expected http://HOST[:PORT]"),
        (INFERENCE, "http://127.0.0.1:http", "expected http://HOST[:PORT]"),
        (INFERENCE, "http://127.0.0.1/path", "expected http://HOST[:PORT]"),
        (INFERENCE, "http://u:p@127.0.0.1", "expected http://HOST[:PORT]"),
        (INFERENCE, "http://[::1", "expected http://HOST[:PORT]"),
        (INFERENCE, "http://example.com", "an IP address or localhost in place of example.com"),
        (INFERENCE, "http://127.1", "an IP address or localhost in place of 127.1"),
    ],
)
def test_other_text_is_refused_with_what_is_expected(type, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        type.read(text, [])


@pytest.mark.parametrize("type", [NUMBER, BOOLEAN, PATH, PATTERN, PROMETHEUS, INFERENCE])
@given(text=st.text())
def test_any_text_is_taken_or_refused_as_a_wrong_value(type, text):
    with contextlib.suppress(ValueError):
        type.read(text, [])


@pytest.mark.parametrize(
    ("host", "url", "reachable"),
    [
        ("127.0.0.1", "http://127.0.0.1:80", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://0.0.0.0:80", "http://127.0.0.1:80"),
        ("::", "http://[::]:80", "http://[::1]:80"),
        ("10.1.2.3", "http://10.1.2.3:80", "http://10.1.2.3:80"),
    ],
)
def test_an_address_has_a_url_to_show_and_one_to_reach(host, url, reachable):
    assert str(Address(host, 80)) == url
    assert Address(host, 80).reachable_url == reachable


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", False), ("::", False)],
)
def test_only_this_machine_reaches_a_loopback_address(host, is_loopback):
    assert Address(host, 80).is_loopback is is_loopback


@pytest.mark.parametrize(
    ("first", "second", "collide"),
    [
        (Address("127.0.0.1", 80), Address("127.0.0.1", 80), True),
        (Address("127.0.0.1", 80), Address("127.0.0.1", 81), False),
        (Address("127.0.0.1", 80), Address("0.0.0.0", 80), True),
        (Address("127.0.0.1", 80), Address("127.0.0.2", 80), False),
        (Address("127.0.0.1", 80), Address("::1", 80), False),
        (Address("127.0.0.1", 0), Address("127.0.0.1", 0), False),
        (Address("::1", 80), Address("::", 80), True),
    ],
)
def test_addresses_collide_when_both_cannot_be_bound(first, second, collide):
    assert first.collides_with(second) is collide
    assert second.collides_with(first) is collide
