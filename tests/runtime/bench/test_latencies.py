from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.bench.latencies import Latencies

TIMES = st.lists(st.floats(0, 4000, allow_nan=False), min_size=1, max_size=200)


def of(*seconds):
    latencies = Latencies()
    for one in seconds:
        latencies.add(one)
    return latencies


@given(TIMES, st.floats(0, 1))
def test_a_quantile_is_the_nearest_rank_to_a_thousandth(seconds, share):
    reference = sorted(seconds)[max(1, ceil(share * len(seconds))) - 1]
    assert of(*seconds).quantile(share) == pytest.approx(reference, rel=0.001, abs=1e-9)


@given(TIMES)
def test_quantiles_ascend_and_end_at_the_largest(seconds):
    latencies = of(*seconds)
    figures = [latencies.quantile(share) for share in (0, 0.1, 0.5, 0.9, 0.99, 1)]
    assert figures == sorted(figures)
    assert figures[-1] <= latencies.max_s == max(seconds)


@given(TIMES)
def test_mean_and_count_are_exact(seconds):
    latencies = of(*seconds)
    assert latencies.count == len(seconds)
    assert latencies.mean_s == pytest.approx(sum(seconds) / len(seconds))


def test_nothing_is_zero():
    assert (Latencies().quantile(0.5), Latencies().mean_s, Latencies().max_s) == (0, 0, 0)


def test_a_clock_that_was_set_back_counts_as_no_time():
    assert (of(-1.0).quantile(0.5), of(-1.0).mean_s) == (0, 0)


def test_many_different_times_need_few_bins():
    latencies = of(*(number / 1e6 for number in range(1, 300_000)))
    assert latencies.count == 299_999
    assert len(latencies._counts) < 8_000
