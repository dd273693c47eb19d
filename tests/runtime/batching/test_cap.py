"""How many requests may go together after memory ran out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.batching.cap import Cap
from marserve.batching.service_time import ServiceTime


def taught(fixed_s=0.008, each_s=0.00025):
    service = ServiceTime()
    for n in (1, 2, 4, 8, 16, 32) * 6:
        service.observe(n, fixed_s + each_s * n)
    return service


def fill(cap, times, service):
    for _ in range(times):
        cap.went_well(cap.limit, True, service)


def test_a_version_starts_at_its_batch_size():
    assert Cap(32).limit == 32


@pytest.mark.parametrize(("failed_at", "limit"), [(32, 16), (20, 10), (3, 1), (2, 1), (1, 1)])
def test_the_cap_falls_to_half_of_what_failed(failed_at, limit):
    cap = Cap(32)
    cap.ran_out(failed_at)

    assert cap.limit == limit


def test_it_climbs_one_by_one_to_just_below_what_failed():
    cap, service, seen = Cap(32), taught(), []
    cap.ran_out(12)
    for _ in range(200):
        fill(cap, 1, service)
        if not seen or seen[-1] != cap.limit:
            seen.append(cap.limit)

    assert seen == [6, 7, 8, 9, 10, 11]


def test_it_does_not_climb_while_batches_are_not_full_or_nobody_else_waits():
    cap, service = Cap(32), taught()
    cap.ran_out(32)
    for _ in range(500):
        cap.went_well(15, True, service)
        cap.went_well(16, False, service)

    assert cap.limit == 16


def test_it_does_not_climb_where_larger_batches_serve_no_more_per_second():
    cap = Cap(32)
    cap.ran_out(32)
    fill(cap, 500, taught(fixed_s=0.0, each_s=0.005))

    assert cap.limit == 16


def test_what_failed_is_tried_again_after_very_many():
    cap, service = Cap(4), taught()
    cap.ran_out(4)
    fill(cap, 100, service)
    assert cap.limit == 3
    fill(cap, 3000, service)

    assert cap.limit == 4


@given(
    st.integers(1, 64),
    st.lists(st.tuples(st.booleans(), st.integers(1, 64), st.booleans()), max_size=200),
)
def test_the_cap_stays_between_one_and_the_batch_size(size, happenings):
    cap, service = Cap(size), taught()
    for ran_out, count, is_backlogged in happenings:
        if ran_out:
            cap.ran_out(count)
            assert cap.limit <= max(1, count // 2)
        else:
            cap.went_well(count, is_backlogged, service)
        assert 1 <= cap.limit <= size
