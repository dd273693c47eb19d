"""Who is refused before it queues, for which reason, and when it should come back (F23, F35)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.batching.admission import (
    GIVES_WAY,
    Load,
    Refusal,
    expected_wait_s,
    refusal,
    retry_after_s,
)

QUIET = Load(
    depth=0,
    depth_limit=10,
    waiting_bytes=0,
    waiting_bytes_limit=1000,
    workers_wanted=1,
    is_hopeless=False,
    is_closing=False,
)
KNOWN = {"wait_s": 0.3, "least_s": 0.2}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"depth": 9, "waiting_bytes": 999}, None),
        ({"depth": 10}, Refusal.QUEUE_FULL),
        ({"depth": 11}, Refusal.QUEUE_FULL),
        ({"depth": 10, "waiting_bytes": 1000}, Refusal.QUEUE_FULL),
        ({"waiting_bytes": 1000}, Refusal.QUEUE_BYTES),
        ({"depth_limit": 0}, Refusal.QUEUE_FULL),
        ({"workers_wanted": 0}, Refusal.NO_WORKERS),
        ({"is_hopeless": True}, Refusal.NO_WORKERS),
        ({"is_hopeless": True, "depth": 10}, Refusal.NO_WORKERS),
        ({"is_closing": True}, Refusal.CLOSING),
        ({"is_closing": True, "workers_wanted": 0, "depth": 10}, Refusal.CLOSING),
        ({"is_memory_low": True, "depth": 10}, Refusal.MEMORY),
        ({"quota_wait_s": 0.1, "depth": 10}, Refusal.QUOTA),
        ({"is_memory_low": True, "quota_wait_s": 0.1}, Refusal.MEMORY),
        ({"tickets": 1}, None),
        ({"tickets": 0}, Refusal.NO_TICKET),
        ({"left_s": 0.5, **KNOWN}, None),
        ({"left_s": 0.49, **KNOWN}, Refusal.DEADLINE_UNREACHABLE),
        ({"left_s": 0.001}, None),
        ({"left_s": 0.0}, Refusal.DEADLINE_UNREACHABLE),
        ({"left_s": -1.0}, Refusal.DEADLINE_UNREACHABLE),
        ({"left_s": math.inf, "wait_s": 1e9}, None),
    ],
)
def test_a_request_is_taken_or_refused_for_the_first_reason_that_holds(change, expected):
    assert refusal(QUIET._replace(**change)) is expected


def test_every_reason_is_a_word_of_its_own():
    assert len({reason.value for reason in Refusal}) == len(Refusal)
    assert {reason.value for reason in GIVES_WAY} == {
        "queue_full",
        "queue_bytes",
        "deadline_unreachable",
    }


@pytest.mark.parametrize(
    ("ahead", "size", "batch_s", "workers", "is_idle", "expected_s"),
    [
        (0, 4, 1.0, 1, True, 0.0),
        (0, 4, 1.0, 1, False, 1.1),
        (3, 4, 1.0, 1, False, 1.1),
        (4, 4, 1.0, 1, False, 2.2),
        (4, 4, 1.0, 1, True, 1.1),
        (8, 4, 1.0, 2, False, 1.65),
        (100, 4, 0.0, 1, False, 0.0),
        (100, 4, 1.0, 0, False, 0.0),
    ],
)
def test_the_wait_is_for_the_batches_before_and_for_what_runs(
    ahead, size, batch_s, workers, is_idle, expected_s
):
    assert expected_wait_s(ahead, size, batch_s, workers, is_idle) == pytest.approx(expected_s)


@given(
    st.integers(0, 10**6), st.integers(1, 512), st.floats(0, 1e3), st.integers(0, 64), st.booleans()
)
def test_the_batch_that_runs_may_be_a_slow_one(ahead, size, batch_s, workers, is_idle):
    wait_s = expected_wait_s(ahead, size, batch_s, workers, is_idle)
    slow_s = expected_wait_s(ahead, size, batch_s, workers, is_idle, slow_batch_s=3.0 * batch_s)
    more_s = 0.0 if is_idle or not workers else 1.9 * batch_s / workers
    assert slow_s == pytest.approx(wait_s + more_s)


@given(
    st.integers(0, 10**6), st.integers(1, 512), st.floats(0, 1e3), st.integers(0, 64), st.booleans()
)
def test_the_wait_never_shrinks_with_the_queue(ahead, size, batch_s, workers, is_idle):
    now_s = expected_wait_s(ahead, size, batch_s, workers, is_idle)
    assert 0.0 <= now_s <= expected_wait_s(ahead + 1, size, batch_s, workers, is_idle)


@pytest.mark.parametrize(
    ("depth", "answered_per_s", "first", "last"),
    [
        (100, 50.0, 2, 5),
        (101, 50.0, 3, 5),
        (100, 1000.0, 1, 5),
        (0, 1000.0, 1, 5),
        (1000, 100.0, 10, 12),
        (1000, 1.0, 30, 30),
        (100, 0.0, 1, 5),
        (100, -1.0, 1, 5),
        (100, 5e-324, 30, 30),
    ],
)
def test_the_refused_come_back_when_the_queue_should_have_drained_and_not_all_at_once(
    depth, answered_per_s, first, last
):
    rolls = [roll / 100 for roll in range(101)]
    got = {retry_after_s(depth, answered_per_s, roll) for roll in rolls}
    assert got == set(range(first, last + 1))


@given(st.integers(0, 10**9), st.floats(allow_nan=False), st.floats(0, 1))
def test_the_wait_is_always_whole_seconds_within_bounds(depth, answered_per_s, roll):
    wait_s = retry_after_s(depth, answered_per_s, roll)

    assert isinstance(wait_s, int)
    assert 1 <= wait_s <= 30
