"""When a worker is worn out (F05, F46)."""

from hypothesis import given
from hypothesis import strategies as st

from marserve.workers.recycling import NEVER_WORN, Wear, WearLimits


def test_without_limits_nothing_wears_out():
    wear = Wear(NEVER_WORN, 0.5)

    assert wear.served(10**9) is None
    assert wear.weighs(10**15) is None


@given(st.integers(1, 10**6), st.floats(0.0, 1.0))
def test_requests_wear_out_within_a_tenth_of_the_limit(limit, roll):
    wear = Wear(WearLimits(after_requests=limit), roll)

    assert wear.served(max(0, int(0.9 * limit) - 1)) is None or limit == 1
    assert wear.served(limit) is not None


def test_memory_wears_out_above_its_limit():
    wear = Wear(WearLimits(above_mb=100), 0.0)
    wear.served(1)

    assert wear.weighs(100 << 20) is None
    assert wear.weighs(101 << 20) == "it takes 101 MB of memory (recycleAboveMb)"


def test_the_weight_of_the_model_alone_wears_nobody_out():
    """The next worker would weigh as much."""
    wear = Wear(WearLimits(above_mb=100), 0.0)

    assert wear.weighs(101 << 20) is None
    assert wear.is_too_heavy_unused(101 << 20)
    assert not wear.is_too_heavy_unused(100 << 20)
    wear.served(1)
    assert not wear.is_too_heavy_unused(101 << 20)


def test_three_times_out_of_memory_within_a_minute_are_enough():
    wear = Wear(NEVER_WORN, 0.0)

    assert [wear.ran_out_of_memory(now) for now in (0.0, 30.0, 61.0)] == [None] * 3
    assert wear.ran_out_of_memory(85.0) == "its memory ran out 3 times within 55 s"
