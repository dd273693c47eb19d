"""How slow a download may be (F45). Pure, so time is numbers."""

from hypothesis import given
from hypothesis import strategies as st

from marserve.registry.sources.rate_floor import RateFloor


def test_a_drip_does_not_hold_beyond_its_window():
    floor = RateFloor(1024, 30, 0.0)
    assert all(floor.holds(1, now) for now in range(30))
    assert not floor.holds(1, 30.0)


def test_a_window_that_had_its_share_begins_anew():
    floor = RateFloor(10, 10, 0.0)
    assert floor.holds(100, 10.0)
    assert floor.holds(0, 19.9)
    assert not floor.holds(99, 20.0)


def test_what_came_early_does_not_count_for_later():
    floor = RateFloor(10, 10, 0.0)
    assert floor.holds(10**9, 5.0)
    assert floor.holds(0, 10.0)
    assert not floor.holds(0, 20.0)


@given(st.lists(st.floats(0.01, 5.0), min_size=1, max_size=50))
def test_whoever_always_sends_the_double_is_never_cut(gaps_s):
    floor, now = RateFloor(100, 10, 0.0), 0.0
    for gap_s in gaps_s:
        now += gap_s
        assert floor.holds(int(200 * gap_s) + 1, now)


@given(st.lists(st.floats(0.01, 5.0), min_size=1, max_size=200))
def test_whoever_always_sends_the_half_is_cut_after_one_window(gaps_s):
    floor, now, held = RateFloor(100, 10, 0.0), 0.0, True
    for gap_s in gaps_s:
        now += gap_s
        held = held and floor.holds(int(50 * gap_s), now)
    assert held is (now < 10)
