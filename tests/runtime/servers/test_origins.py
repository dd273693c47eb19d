"""Which pages may call a control port."""

import pytest

from marserve.servers.origins import may_call

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
