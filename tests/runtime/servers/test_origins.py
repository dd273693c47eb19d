"""Which pages may call a control port."""

import pytest

from marserve.servers.origins import is_own_host, may_call

PAGE = "https://console.example"


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "answer"),
    [
        ("http://127.0.0.1:8081", "127.0.0.1:8081", None, True),
        ("http://localhost:8081", "localhost:8081", None, True),
        ("http://[::1]:8081", "[::1]:8081", None, True),
        ("http://127.0.0.1:8081", "127.0.0.1:8081", PAGE, True),
        ("http://127.0.0.1:3000", "127.0.0.1:8081", None, False),
        ("http://mine.example", "mine.example", None, False),
        (PAGE, "127.0.0.1:8081", None, False),
        (PAGE, "127.0.0.1:8081", PAGE, True),
        (PAGE.upper(), "127.0.0.1:8081", f" {PAGE} ", True),
        (PAGE + ".evil.example", "127.0.0.1:8081", PAGE, False),
        (PAGE + ":444", "127.0.0.1:8081", PAGE, False),
        (PAGE, "127.0.0.1:8081", "*", False),
        ("*", "127.0.0.1:8081", "*", False),
        ("null", "127.0.0.1:8081", "*", False),
        ("", "", None, False),
    ],
)
def test_a_page_may_call_its_own_host_or_what_the_operator_allows(origin, host, allowed, answer):
    assert may_call(origin, host, allowed) is answer


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("127.0.0.1:8081", True),
        ("[::1]:8081", True),
        ("localhost", True),
        ("marserve:8081", True),
        ("marserve.models.svc.cluster.local", True),
        ("printer.home.arpa", True),
        ("evil.example", False),
        # whoever holds a block of addresses has its names, too
        ("page.1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa:8081", False),
        ("page.2.0.192.in-addr.arpa", False),
        ("home.arpa.evil.example", False),
    ],
)
def test_a_host_is_our_own_if_no_stranger_can_own_its_name(host, answer):
    assert is_own_host(host) is answer
