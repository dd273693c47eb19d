"""The most urgent leave first, in a class who came first, and nobody waits for ever."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.batching.line import RESERVED, Line
from marserve.batching.window import Limits, Window
from marserve.request import CRITICAL, HIGH, LOW, NORMAL


def line_of(*requests):
    """A line of requests (rank, number), which came in this order."""
    line = Line(lambda one: one[0])
    for since, one in enumerate(requests):
        line.place(float(since), one)
    return line


def taken(line, count):
    return [item for _, item in line.first(count)]


def test_who_is_more_urgent_is_before_others_and_behind_its_own():
    line = line_of((NORMAL, 0), (LOW, 1), (HIGH, 2), (NORMAL, 3), (CRITICAL, 4), (HIGH, 5))
    assert taken(line, 6) == [
        (CRITICAL, 4),
        (HIGH, 2),
        (HIGH, 5),
        (NORMAL, 0),
        (NORMAL, 3),
        (LOW, 1),
    ]


def test_a_line_of_one_class_is_not_mixed_and_one_that_emptied_is_so_no_more():
    line = line_of((NORMAL, 0), (NORMAL, 1))
    assert not line.is_mixed
    line.place(2.0, (HIGH, 2))
    assert line.is_mixed
    taken(line, 3)
    line.place(3.0, (NORMAL, 3))
    assert not line.is_mixed


def test_one_place_in_twenty_is_for_the_lowest_class_that_waits():
    line = line_of(*[(CRITICAL, n) for n in range(100)], *[(LOW, n) for n in range(100)])
    places = taken(line, 100)
    low = [index for index, (rank, _) in enumerate(places) if rank == LOW]
    assert len(low) == int(100 * RESERVED)
    assert [number for rank, number in places if rank == LOW] == list(range(len(low)))
    assert all(later - sooner >= 19 for sooner, later in pairwise(low))


@pytest.mark.parametrize("rank", [CRITICAL, HIGH, NORMAL, LOW])
def test_as_many_are_before_a_newcomer_as_really_leave_before_it(rank):
    line = line_of((NORMAL, 0), (LOW, 1), (HIGH, 2), (NORMAL, 3), (CRITICAL, 4))
    before = line.count_before(rank)
    line.place(9.0, (rank, "new"))
    assert [item for _, item in line].index((rank, "new")) == before


def test_without_classes_a_normal_request_has_all_before_it_and_an_urgent_one_nobody():
    line = line_of((NORMAL, 0), (NORMAL, 1))
    assert [line.count_before(rank) for rank in (CRITICAL, HIGH, NORMAL, LOW)] == [0, 0, 2, 2]


def test_what_comes_back_unserved_stands_where_it_stood():
    line = line_of((NORMAL, 0), (HIGH, 1), (NORMAL, 2))
    first = line.first(2)
    line.place(3.0, (HIGH, 3))
    line.put_back(first)
    assert taken(line, 4) == [(HIGH, 1), (HIGH, 3), (NORMAL, 0), (NORMAL, 2)]


def test_an_urgent_request_that_comes_back_to_a_line_of_others_is_before_them():
    line = line_of((NORMAL, 1))
    line.put_back([(0.0, (HIGH, 0)), (2.0, (LOW, 2))])
    assert line.is_mixed
    assert taken(line, 3) == [(HIGH, 0), (NORMAL, 1), (LOW, 2)]


def test_the_newest_are_of_the_most_urgent_class_and_go_in_the_order_in_which_they_came():
    line = line_of((NORMAL, 0), (HIGH, 1), (NORMAL, 2), (HIGH, 3), (HIGH, 4))
    assert [item for _, item in line.newest(2)] == [(HIGH, 3), (HIGH, 4)]
    assert taken(line, 3) == [(HIGH, 1), (NORMAL, 0), (NORMAL, 2)]
    plain = line_of((NORMAL, 0), (NORMAL, 1), (NORMAL, 2))
    assert [item for _, item in plain.newest(2)] == [(NORMAL, 1), (NORMAL, 2)]


RANKS = st.sampled_from([CRITICAL, HIGH, NORMAL, LOW])
STEPS = st.lists(
    st.one_of(RANKS, st.tuples(st.just("take"), st.integers(1, 5)), st.just("back")), max_size=60
)


@given(STEPS)
def test_whatever_happens_nobody_is_lost_or_doubled_and_classes_stay_in_order(steps):
    line = Line(lambda one: one[0])
    came, left, out = [], [], []
    for now, step in enumerate(steps):
        if isinstance(step, int):
            came.append((step, now))
            line.place(float(now), came[-1])
        elif step == "back":
            line.put_back(out)
            left = left[: len(left) - len(out)]
            out = []
        else:
            out = line.first(min(step[1], len(line)))
            left += [item for _, item in out]
        assert sorted(left + [item for _, item in line]) == sorted(came)
        ranks = [item[0] for _, item in line]
        assert ranks == sorted(ranks)
        for rank in set(ranks):
            ages = [since for since, item in line if item[0] == rank]
            assert ages == sorted(ages)
        assert line.is_mixed or set(ranks) <= {NORMAL}


@given(st.lists(RANKS, min_size=1, max_size=60), st.integers(1, 8))
def test_a_window_serves_everybody_whatever_their_classes(ranks, size):
    window = Window(Limits(size, 0.0), rank_of=lambda one: one[0])
    came = [(rank, number) for number, rank in enumerate(ranks)]
    for one in came:
        window.add(one, float(one[1]), one[0])
    served = []
    while len(window):
        served += window.take(100.0)
    assert sorted(served) == sorted(came)


@given(st.lists(st.tuples(RANKS, st.floats(0.0, 50.0)), min_size=1, max_size=40))
def test_who_waited_too_long_is_found_in_every_class(requests):
    window = Window(Limits(4, 0.0), rank_of=lambda one: one[0])
    ages = sorted(since for _, since in requests)
    for (rank, _), since in zip(requests, ages, strict=True):
        window.add((rank, since), since, rank)
    assert window.oldest_since() == ages[0]
    assert sorted(item[1] for item in window.drop_before(25.0)) == [a for a in ages if a <= 25.0]
    assert len(window) == sum(a > 25.0 for a in ages)
