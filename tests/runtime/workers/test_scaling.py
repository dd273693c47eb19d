"""When there should be more workers, and when fewer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.workers.scaling import Demand, Scaler, ScalingLimits

LIMITS = ScalingLimits(fewest=1, most=4, up_s=0.5, down_s=60.0)


def idle(wanted):
    return Demand(wanted=wanted, ready=wanted, waiting_s=None)


@pytest.mark.parametrize(
    ("demand", "wanted"),
    [
        (Demand(1, 1, None), 1),
        (Demand(1, 1, 0.49), 1),
        (Demand(1, 1, 0.5), 2),
        (Demand(2, 1, 9.0), 2),  # one is still starting
        (Demand(2, 2, 9.0), 3),
        (Demand(4, 4, 9.0), 4),  # no more are allowed
        (Demand(0, 0, None), 1),  # fewer than the fewest
        (Demand(9, 9, None), 4),
    ],
)
def test_a_request_that_waits_while_all_serve_calls_for_one_more(demand, wanted):
    assert Scaler(LIMITS, 0.0).wanted(demand, 1.0) == wanted


def test_without_a_worker_the_first_request_starts_one_at_once():
    scaler = Scaler(ScalingLimits(0, 2, 0.5, 60.0), 0.0)

    assert scaler.wanted(Demand(0, 0, None), 1.0) == 0
    assert scaler.wanted(Demand(0, 0, 0.0), 1.0) == 1
    assert scaler.wanted(Demand(1, 0, 0.1), 1.1) == 1


def test_a_worker_that_was_not_needed_for_long_enough_goes():
    scaler = Scaler(LIMITS, 0.0)
    scaler.saw(2)
    counts = [scaler.wanted(idle(3), float(now)) for now in range(0, 60, 10)]

    assert counts == [3] * 6
    assert scaler.wanted(idle(3), 60.0) == 2


def test_a_worker_that_was_needed_once_in_a_while_stays():
    scaler = Scaler(LIMITS, 0.0)
    for now in range(0, 600, 10):
        if now % 50 == 0:
            scaler.saw(3)
        assert scaler.wanted(idle(3), float(now)) == 3


def test_workers_go_one_at_a_time_and_never_below_the_fewest():
    scaler = Scaler(LIMITS, 0.0)
    count, seen = 4, []
    for now in range(0, 400, 5):
        count = scaler.wanted(idle(count), float(now))
        seen.append(count)

    assert sorted(seen, reverse=True) == seen
    assert set(seen) == {4, 3, 2, 1}
    assert seen.count(3) * 5 >= 60


def test_the_last_worker_goes_too_where_none_is_allowed():
    scaler = Scaler(ScalingLimits(0, 1, 0.5, 2.0), 0.0)
    assert scaler.wanted(idle(1), 1.9) == 1
    assert scaler.wanted(idle(1), 2.0) == 0


@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.none() | st.floats(0, 9), st.integers(0, 5)), max_size=80
    )
)
def test_the_count_is_always_in_the_range_and_moves_by_one(steps):
    limits = ScalingLimits(1, 4, 0.5, 3.0)
    scaler, now, count = Scaler(limits, 0.0), 0.0, 1
    for elapsed_s, waiting_s, busy in steps:
        now += elapsed_s
        scaler.saw(min(busy, count))
        before, count = count, scaler.wanted(Demand(count, count, waiting_s), now)
        assert limits.fewest <= count <= limits.most
        assert abs(count - before) <= 1
