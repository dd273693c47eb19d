"""Plain figures count what they are told."""

import bisect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.observe.figures import Counter, Histogram, legal_name, legal_value

BOUNDS = (0.1, 1.0, 10.0)


def test_a_counter_adds_up():
    counter = Counter()
    counter.add()
    counter.add(2.5)
    assert counter.value == 3.5


def test_a_histogram_shows_cumulative_buckets_count_and_sum():
    histogram = Histogram(BOUNDS)
    for value in (0.05, 0.1, 0.5, 10.0, 11.0):
        histogram.observe(value)
    shown = [
        (sample.name, sample.labels, sample.value) for sample in histogram.samples("h", {"a": "b"})
    ]
    assert shown == [
        ("h_bucket", {"a": "b", "le": "0.1"}, 2),
        ("h_bucket", {"a": "b", "le": "1.0"}, 3),
        ("h_bucket", {"a": "b", "le": "10.0"}, 4),
        ("h_bucket", {"a": "b", "le": "+Inf"}, 5),
        ("h_count", {"a": "b"}, 5),
        ("h_sum", {"a": "b"}, pytest.approx(21.65)),
    ]


@given(st.lists(st.floats(0, 100)))
def test_a_histogram_counts_every_observation_under_its_bound(values):
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    shown = [sample.value for sample in histogram.samples("h", {})]
    ordered = sorted(values)
    assert shown[:3] == [bisect.bisect_right(ordered, bound) for bound in BOUNDS]
    assert shown[3] == shown[4] == len(values)


@pytest.mark.parametrize(
    ("text", "legal"),
    [
        ("HandlerTime", "HandlerTime"),
        ("a-b.c d", "a_b_c_d"),
        ("9lives", "_9lives"),
        ("__name__", "_name__"),
        ("", "_"),
        ("é\n", "_"),
    ],
)
def test_a_name_is_made_legal(text, legal):
    assert legal_name(text) == legal


def test_a_value_is_cut_and_holds_nothing_that_utf8_cannot():
    assert legal_value("x" * 300) == "x" * 256
    assert legal_value("a\udc80\n") == "a\\udc80\n"
