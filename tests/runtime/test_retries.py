"""A client tries again sparingly, later each time, and never in step with others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.retries import MAX_ATTEMPTS, MAX_PAUSE_S, Retries


@pytest.mark.parametrize(
    ("attempt", "retry_after_s", "roll", "expected"),
    [
        (1, 0.0, 0.0, 0.0),
        (1, 0.0, 0.5, 0.1),
        (2, 0.0, 0.5, 0.2),
        (1, 3.0, 0.5, 3.1),
        (3, 0.0, 0.5, None),
        (1, MAX_PAUSE_S + 1, 0.5, None),
    ],
)
def test_pauses_grow_are_spread_and_never_shorter_than_the_server_said(
    attempt, retry_after_s, roll, expected
):
    assert Retries().pause_s(attempt, retry_after_s, roll) == expected


@given(st.integers(1, 500), st.integers(1, MAX_ATTEMPTS))
def test_whatever_fails_a_tenth_of_the_requests_is_retried_and_a_few(requests, attempts):
    retries, again = Retries(), 0
    for _ in range(requests):
        retries.asked()
        for attempt in range(1, attempts + 1):
            if retries.pause_s(attempt, 0.0, 0.0) is None:
                break
            again += 1
    assert again <= 3 + 0.1 * requests + 1e-6
