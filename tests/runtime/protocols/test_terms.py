"""What a client says of its request: understood, refused with the remedy, or ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.errors import InvalidInput
from marserve.protocols.terms import NAMES as NAMES_OF_TERMS
from marserve.protocols.terms import Terms, share_of, terms
from marserve.request import CRITICAL, HIGH, LOW, NORMAL

NOW, WALL = 500.0, 1_767_225_600.0


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], None),
        ([("content-type", "text/plain")], None),
        ([("X-Request-Timeout-Ms", "250")], Terms(timeout_s=0.25)),
        ([("x-request-timeout-ms", "86400000")], Terms(timeout_s=86400.0)),
        ([("x-request-timeout-ms", "")], None),
        ([("x-envoy-expected-rq-timeout-ms", "250")], Terms(timeout_s=0.25)),
        ([("x-envoy-expected-rq-timeout-ms", "0")], None),
        ([("x-envoy-expected-rq-timeout-ms", "soon")], None),
        (
            [("x-envoy-expected-rq-timeout-ms", "100"), ("x-request-timeout-ms", "250")],
            Terms(timeout_s=0.1),
        ),
        ([("x-request-deadline", "1767225600.25")], Terms(deadline=1_767_225_600.25)),
        ([("x-priority", "critical")], Terms(priority=CRITICAL)),
        ([("X-Priority", "High")], Terms(priority=HIGH)),
        ([("x-priority", "normal")], None),
        ([("x-priority", "2")], None),
        ([("x-priority", "3")], Terms(priority=LOW)),
        ([("x-priority", "0"), ("x-priority", "3")], Terms(priority=CRITICAL)),
        ([("x-client-id", "team-a")], Terms(client_id="team-a")),
    ],
)
def test_headers_are_understood(fields, expected):
    raw = [(name.encode(), value.encode()) for name, value in fields]
    assert terms(raw, is_trusted=True) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-request-timeout-ms", "0"),
        ("x-request-timeout-ms", "86400001"),
        ("x-request-timeout-ms", "1.5"),
        ("x-request-timeout-ms", "-1"),
        ("x-request-deadline", "tomorrow"),
        ("x-request-deadline", "-1"),
        ("x-request-deadline", "1e9"),
        ("x-priority", "4"),
        ("x-priority", "urgent"),
        ("x-client-id", "a b"),
        ("x-client-id", "a" * 129),
    ],
)
def test_what_cannot_be_understood_is_refused_with_the_remedy(name, value):
    with pytest.raises(InvalidInput, match="(?i)" + name):
        terms([(name.encode(), value.encode())], is_trusted=True)


def test_strangers_are_believed_how_long_they_wait_and_nothing_else():
    said = [(b"x-priority", b"0"), (b"x-client-id", b"a"), (b"x-request-timeout-ms", b"9")]
    assert terms(said, is_trusted=False) == Terms(timeout_s=0.009)
    assert terms(said[:2], is_trusted=False) is None
    assert terms([(b"x-priority", b"rubbish")], is_trusted=False) is None


@pytest.mark.parametrize(
    ("said", "left_s"),
    [
        (Terms(), None),
        (Terms(timeout_s=2.0), 2.0),
        (Terms(deadline=WALL + 3.0), 3.0),
        (Terms(timeout_s=2.0, deadline=WALL + 3.0), 2.0),
        (Terms(timeout_s=4.0, deadline=WALL + 3.0), 3.0),
        (Terms(deadline=WALL - 0.5), -0.5),
        (Terms(deadline=WALL - 1.5), None),
        (Terms(deadline=WALL + 86_401.0), None),
        (Terms(timeout_s=2.0, deadline=WALL - 1.5), 2.0),
    ],
)
def test_the_shortest_time_counts_and_a_clock_that_is_wrong_does_not(said, left_s):
    got = said.ends_at(NOW, lambda: WALL)
    assert got == (None if left_s is None else NOW + left_s)


@pytest.mark.parametrize(
    ("said", "client", "expected"),
    [
        (None, "10.0.0.1:5000", "10.0.0.1"),
        (None, "127.0.0.1:5000", "127.0.0.1:5000"),
        (None, "::1:5000", "::1:5000"),
        (None, "2001:db8::7:5000", "2001:db8::7"),
        (Terms(client_id="a"), "10.0.0.1:5000", "id a"),
        (Terms(priority=HIGH), "10.0.0.1:5000", "10.0.0.1"),
        (None, "", ""),
    ],
)
def test_who_asks_is_who_says_so_or_where_it_comes_from(said, client, expected):
    assert share_of(said, client) == expected


NAMES = st.sampled_from([*sorted(NAMES_OF_TERMS), b"X-PRIORITY", b"accept"])


@given(st.lists(st.tuples(NAMES, st.binary(max_size=20)), max_size=6), st.booleans())
def test_any_bytes_are_terms_or_a_refusal(fields, is_trusted):
    try:
        said = terms(fields, is_trusted)
    except InvalidInput:
        return
    if said is not None:
        ends_at = said.ends_at(NOW, lambda: WALL)
        assert ends_at is None or NOW - 1.0 <= ends_at <= NOW + 86_400.0
        assert said.priority in (CRITICAL, HIGH, NORMAL, LOW)
