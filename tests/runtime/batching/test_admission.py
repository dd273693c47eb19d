"""Who is refused before it queues, and when it should come back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.batching.admission import Load, Refusal, refusal, retry_after_s

QUIET = Load(
    depth=0,
    depth_limit=10,
    waiting_bytes=0,
    waiting_bytes_limit=1000,
    workers_wanted=1,
    is_hopeless=False,
    is_closing=False,
)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"depth": 9, "waiting_bytes": 999}, None),
        ({"depth": 10}, Refusal.QUEUE_FULL),
        ({"depth": 11}, Refusal.QUEUE_FULL),
        ({"waiting_bytes": 1000}, Refusal.QUEUE_FULL),
        ({"depth_limit": 0}, Refusal.QUEUE_FULL),
        ({"workers_wanted": 0}, Refusal.NO_WORKERS),
        ({"is_hopeless": True}, Refusal.NO_WORKERS),
        ({"is_hopeless": True, "depth": 10}, Refusal.NO_WORKERS),
        ({"is_closing": True}, Refusal.CLOSING),
        ({"is_closing": True, "workers_wanted": 0, "depth": 10}, Refusal.CLOSING),
    ],
)
def test_a_request_is_taken_or_refused_for_the_first_reason_that_holds(change, expected):
    assert refusal(QUIET._replace(**change)) is expected


@pytest.mark.parametrize(
    ("depth", "answered_per_s", "expected"),
    [
        (100, 50.0, 2),
        (101, 50.0, 3),
        (100, 1000.0, 1),
        (0, 1000.0, 1),
        (1000, 1.0, 30),
        (100, 0.0, 1),
        (100, -1.0, 1),
        (100, 5e-324, 30),
    ],
)
def test_a_full_queue_says_when_it_should_have_drained(depth, answered_per_s, expected):
    assert retry_after_s(depth, answered_per_s) == expected


@given(st.integers(0, 10**9), st.floats(allow_nan=False))
def test_the_wait_is_always_whole_seconds_within_bounds(depth, answered_per_s):
    wait_s = retry_after_s(depth, answered_per_s)

    assert isinstance(wait_s, int)
    assert 1 <= wait_s <= 30
