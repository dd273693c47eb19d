"""A queue that stands is found out, one that only has bursts is let be."""

from hypothesis import given
from hypothesis import strategies as st

from marserve.batching.codel import LEAST_INTERVAL_S, LEAST_TARGET_S, CoDel
from marserve.batching.window import Limits, Window


def judged(waits, step_s=0.01, **batch):
    """The judgements over requests whose turns come every `step_s`."""
    codel = CoDel()
    return [codel.is_late(wait_s, n * step_s, **batch) for n, wait_s in enumerate(waits)]


def test_who_waits_long_for_less_than_an_interval_is_served():
    assert not any(judged([0.5] * 10))


def test_in_a_queue_that_stands_longer_waits_are_dropped_and_short_ones_are_not():
    assert judged([0.05] * 12)[-1]
    assert not judged([0.05] * 11 + [2 * LEAST_TARGET_S])[-1]


def test_one_short_wait_in_every_interval_keeps_everybody():
    assert not any(judged(([0.05] * 5 + [0.001] + [0.05] * 4) * 20))


def test_a_queue_stands_no_more_once_an_interval_had_a_short_wait():
    judgements = judged([0.05] * 15 + [0.001] * 10 + [0.05] * 10)
    assert judgements[14]
    assert not any(judgements[31:])


def test_slow_batches_make_waiting_longer_a_matter_of_course():
    assert not any(judged([0.9] * 100, batch_s=1.0, slow_batch_s=1.0))


def test_a_queue_that_emptied_does_not_stand():
    codel = CoDel()
    for n in range(12):
        codel.is_late(0.05, n * 0.01)
    assert codel.is_standing
    codel.emptied()
    assert not codel.is_standing


@given(st.lists(st.floats(0, 2 * LEAST_TARGET_S), max_size=200), st.floats(0.001, 0.1))
def test_nobody_is_dropped_who_waited_less_than_twice_the_target(waits, step_s):
    assert not any(judged(waits, step_s))


@given(st.lists(st.floats(0.011, 10), min_size=120, max_size=120))
def test_in_sustained_overload_somebody_is_dropped_within_two_intervals(waits):
    count = int(2 * LEAST_INTERVAL_S / 0.001)
    assert any(judged((waits * 2)[: count + 1], 0.001))


def test_a_window_drops_the_oldest_and_while_the_queue_stands_serves_the_newest():
    window = Window(Limits(2, 0.0, sheds=True, newest_first=True))
    for n in range(40):
        window.add(n, n * 0.005)
    assert window.shed(0.2) == []  # the first look begins the first interval
    assert window.take(0.2) == [0, 1]
    dropped = window.shed(0.31)
    assert dropped == list(range(2, 40))
    for n in range(40, 44):
        window.add(n, 0.32)
    assert window.shed(0.321) == []
    assert window.take(0.321) == [42, 43]


def test_a_plain_window_never_sheds():
    window = Window(Limits(2, 0.0))
    window.add("old", 0.0)
    assert [window.shed(now) for now in (1.0, 2.0, 3.0)] == [[], [], []]
