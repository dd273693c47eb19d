"""What is learned of how long batches take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.batching.service_time import ServiceTime


def observed(pairs):
    service = ServiceTime()
    for cost, took_s in pairs:
        service.observe(cost, took_s)
    return service


def line(sizes, fixed_s=0.008, each_s=0.00025):
    return [(n, fixed_s + each_s * n) for n in sizes]


def test_nothing_is_known_before_a_few_batches():
    service = observed(line([1, 2, 3]))

    assert not service.is_known
    assert (service.fixed_s, service.each_s, service.slow_s(8)) == (0.0, 0.0, 0.0)
    assert service.most_within(0.001) == float("inf")


def test_the_line_is_learned_from_batches_of_different_sizes():
    service = observed(line([1, 4, 9, 16, 32] * 8))

    assert service.fixed_s == pytest.approx(0.008, rel=0.02)
    assert service.each_s == pytest.approx(0.00025, rel=0.05)
    assert service.expected_s(24) == pytest.approx(0.014, rel=0.01)


def test_half_is_taken_for_fixed_while_all_batches_are_alike():
    assert observed(line([8] * 40)).fixed_s == pytest.approx(0.005)


def test_neither_slow_first_batches_nor_a_pause_bend_the_line():
    slow_start = [(1, 2.0), (4, 1.0)]
    steady = line([1, 4, 9, 16] * 10)
    steady[13] = (4, 3.0)
    service = observed(slow_start + steady)

    assert service.fixed_s == pytest.approx(0.008, rel=0.05)


def test_a_size_that_did_not_come_for_long_is_not_forgotten():
    service = observed(line([1, 2, 4, 8] * 4) + line([24] * 5000))

    assert service.fixed_s == pytest.approx(0.008, rel=0.1)


def test_a_model_that_became_slower_is_learned_anew():
    service = observed(line([1, 4, 16] * 30) + line([1, 4, 16] * 30, fixed_s=0.020))

    assert service.fixed_s == pytest.approx(0.020, rel=0.03)


def test_the_line_of_work_that_does_not_batch_passes_through_zero():
    service = observed(line([1, 2, 4, 8] * 10, fixed_s=-0.0005, each_s=0.005))

    assert service.fixed_s == 0.0
    assert service.each_s == pytest.approx(0.005, rel=0.2)


def test_slow_batches_count_for_what_is_promised():
    pairs = [(8, 0.010 if index % 10 else 0.015) for index in range(200)]
    service = observed(pairs)

    assert service.expected_s(8) == pytest.approx(0.010, rel=0.02)
    assert service.slow_s(8) == pytest.approx(0.015, rel=0.02)


@given(
    st.lists(st.tuples(st.floats(1.0, 1e9), st.floats(0.0, 1000.0)), min_size=4, max_size=60),
    st.floats(0.0, 100.0),
)
def test_whatever_was_observed_the_answers_are_sane(pairs, limit_s):
    service = observed(pairs)

    assert service.fixed_s >= 0.0
    assert service.each_s >= 0.0
    assert service.slow_s(5) >= service.expected_s(5)
    most = service.most_within(limit_s)
    assert most >= 0.0
    if 0.0 < most < 1e12:
        assert service.slow_s(most) <= limit_s * (1 + 1e-6) + 1e-9
