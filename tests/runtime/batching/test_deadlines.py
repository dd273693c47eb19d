"""Who can be answered in time, and with whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.batching.deadlines import hopeless, members
from marserve.batching.service_time import ServiceTime

NEVER = float("inf")


def taught():
    """10 ms for a batch and 1 ms for each request."""
    service = ServiceTime()
    for n in (1, 2, 4, 8, 16, 32) * 6:
        service.observe(n, 0.010 + 0.001 * n)
    return service


@pytest.mark.parametrize(
    ("slack_s", "expected"), [(0.0, True), (-1.0, True), (0.010, True), (0.012, False)]
)
def test_who_would_be_late_even_alone_is_hopeless(slack_s, expected):
    assert hopeless(slack_s, taught()) is expected


def test_while_nothing_is_known_everybody_may_try():
    assert not hopeless(0.000001, ServiceTime())
    assert members([0.000001, NEVER], ServiceTime()) == {0, 1}


@pytest.mark.parametrize(
    ("slack_s", "chosen"),
    [
        pytest.param([], set(), id="nobody"),
        pytest.param([NEVER] * 3, {0, 1, 2}, id="no deadlines"),
        pytest.param([0.5, 0.1, NEVER], {0, 1, 2}, id="all can make it"),
        pytest.param([0.017] + [NEVER] * 7, {0, 1, 2, 3, 4, 5}, id="a shorter batch makes it"),
        pytest.param([0.012] + [NEVER] * 7, set(range(1, 8)), id="the tightest is left out"),
        pytest.param([0.001], {0}, id="one is always chosen"),
    ],
)
def test_a_batch_is_shortened_for_its_tightest_or_leaves_it_out(slack_s, chosen):
    assert members(slack_s, taught()) == chosen


@given(st.lists(st.one_of(st.floats(0.0, 0.1), st.just(NEVER)), min_size=1, max_size=40))
def test_whoever_is_chosen_is_in_time_or_alone(slack_s):
    service = taught()
    chosen = members(slack_s, service)

    assert chosen
    assert len(chosen) == 1 or service.slow_s(len(chosen)) <= min(slack_s[i] for i in chosen)
