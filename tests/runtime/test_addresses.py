import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.addresses import HOST, Address, address

INFERENCE = address(80, 443)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:9000", Address("127.0.0.1", 9000)),
        ("http://127.0.0.1", Address("127.0.0.1", 80)),
        ("http://127.0.0.1:9000/", Address("127.0.0.1", 9000)),
        ("http://localhost:0", Address("127.0.0.1", 0)),
        ("http://[::1]:9000", Address("::1", 9000)),
        ("http://[::]", Address("::", 80)),
        ("HTTP://0.0.0.0:65535", Address("0.0.0.0", 65535)),
        ("https://127.0.0.1:8443", Address("127.0.0.1", 8443, "https")),
        ("https://127.0.0.1", Address("127.0.0.1", 443, "https")),
        ("unix:/run/a.sock", Address("", 0, "unix", "/run/a.sock")),
        ("unix:///run/a.sock", Address("", 0, "unix", "/run/a.sock")),
        ("UNIX:/run/a.sock", Address("", 0, "unix", "/run/a.sock")),
    ],
)
def test_text_becomes_an_address(text, expected):
    assert INFERENCE.read(text, []) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", "expected http[s]://HOST[:PORT] or unix:/PATH"),
        ("", "expected http[s]://HOST[:PORT] or unix:/PATH"),
        ("127.0.0.1:8080", "expected http[s]://HOST[:PORT] or unix:/PATH"),
        ("ftp://127.0.0.1", "expected http[s]://HOST[:PORT] or unix:/PATH"),
        ("http://", "expected http[s]://HOST[:PORT] or unix:/PATH"),
        ("http://:8080", "expected http[s]://HOST[:PORT] or unix:/PATH"),
        ("http://127.0.0.1:65536", "expected http[s]://HOST[:PORT] or unix:/PATH"),
        ("http://127.0.0.1:http", "expected http[s]://HOST[:PORT] or unix:/PATH"),
        ("http://127.0.0.1/path", "expected http[s]://HOST[:PORT] or unix:/PATH"),
        ("http://u:p@127.0.0.1", "expected http[s]://HOST[:PORT] or unix:/PATH"),
        ("http://[::1", "expected http[s]://HOST[:PORT] or unix:/PATH"),
        ("http://example.com", "an IP address or localhost in place of example.com"),
        ("http://127.1", "an IP address or localhost in place of 127.1"),
        ("unix:", "expected the absolute path of a socket"),
        ("unix:relative", "expected the absolute path of a socket"),
        ("unix:/folder/", "expected the absolute path of a socket"),
        ("unix:/a\0b", "expected the absolute path of a socket"),
        ("unix:/" + "a" * 100, "expected a path of at most 100 bytes"),
    ],
)
def test_other_text_is_refused_with_what_is_expected(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        INFERENCE.read(text, [])


@pytest.mark.parametrize("type", [INFERENCE, HOST])
@given(text=st.text() | st.text().map(lambda text: f"unix:/{text}"))
def test_any_text_is_taken_or_refused_as_a_wrong_value(type, text):
    with contextlib.suppress(ValueError):
        type.read(text, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("[::1]", "::1"), ("::", "::")],
)
def test_an_interface_is_named_by_its_address_alone(text, expected):
    assert HOST.read(text, []) == expected


def test_a_unix_address_is_this_machines_own():
    socket = Address("", 0, "unix", "/run/a.sock")
    assert str(socket) == socket.reachable_url == "unix:/run/a.sock"
    assert socket.is_loopback
    assert socket.is_same_port(Address("", 0, "unix", "/run/a.sock"))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (Address("127.0.0.1", 80), Address("127.0.0.1", 80), True),
        (Address("127.0.0.1", 80), Address("127.0.0.1", 80, "https"), False),
        (Address("127.0.0.1", 0), Address("127.0.0.1", 0), False),
    ],
)
def test_equal_addresses_are_one_port_unless_it_is_a_free_one(first, second, same):
    assert first.is_same_port(second) is same


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
        (Address("127.0.0.1", 80), Address("127.0.0.1", 80, "https"), True),
        (Address("", 0, "unix", "/a"), Address("", 0, "unix", "/a"), True),
        (Address("", 0, "unix", "/a"), Address("", 0, "unix", "/b"), False),
        (Address("", 0, "unix", "/a"), Address("127.0.0.1", 80), False),
    ],
)
def test_addresses_collide_when_both_cannot_be_bound(first, second, collide):
    assert first.collides_with(second) is collide
    assert second.collides_with(first) is collide
