"""The checker of version histories finds what is planted, and nothing else (F19, LIN)."""

from itertools import pairwise

import pytest
from chaos.history import Read, Write, violations
from hypothesis import given
from hypothesis import strategies as st

WRITES = [Write(0, 0, "1"), Write(10, 12, "2"), Write(20, 22, "1"), Write(30, 32, "3")]


def rules(*reads):
    return [one.rule for one in violations(WRITES, [Read(*read) for read in reads])]


@pytest.mark.parametrize(
    "reads",
    [
        [(1, 2, "1"), (13, 14, "2"), (23, 24, "1"), (33, 34, "3")],
        [(9, 10.5, "2")],  # as soon as the change has begun,
        [(11, 13, "1")],  # and until it is acknowledged
        [(9, 25, "1"), (9, 25, "2")],  # a request that takes long may see either
        [(11, 11.5, "2"), (10.5, 15, "1")],  # both under way at the same time
        [(11, 11.5, "1"), (11.6, 11.7, "2")],
        [(19, 23, "2"), (24, 25, "1")],
    ],
)
def test_what_one_register_can_answer_is_right(reads):
    assert rules(*reads) == []


@pytest.mark.parametrize(
    ("reads", "rule"),
    [
        ([(12.1, 13, "1")], "stale"),
        ([(33, 34, "2")], "stale"),
        ([(1, 9.9, "2")], "early"),
        ([(1, 2, "3")], "early"),
        ([(1, 2, "4")], "unknown"),
        ([(10.1, 10.5, "2"), (10.6, 11, "1")], "backwards"),
        ([(30.1, 30.5, "3"), (30.6, 31, "1")], "backwards"),
    ],
)
def test_what_none_can_is_found(reads, rule):
    assert rules(*reads) == [rule]


def test_a_change_that_was_not_acknowledged_may_have_been_made_or_not():
    writes = [Write(0, 0, "1"), Write(10, None, "2"), Write(20, 21, "3")]

    def found(*reads):
        return [one.rule for one in violations(writes, [Read(*read) for read in reads])]

    assert found((15, 16, "1"), (17, 18, "2"), (18.5, 19, "2")) == []
    assert found((15, 16, "2"), (17, 18, "1")) == ["backwards"]
    assert found((22, 23, "2")) == ["stale"]


def test_writes_that_overlap_are_not_judged():
    with pytest.raises(ValueError, match="before the one before has ended"):
        violations([Write(0, 0, "1"), Write(1, 5, "2"), Write(4, 6, "3")], [])


MOMENTS = st.lists(st.integers(0, 400), min_size=2, max_size=14, unique=True).map(sorted)


@given(MOMENTS, st.data())
def test_a_register_that_works_is_never_blamed(moments, data):
    """Each write takes effect somewhere in its interval, each read looks somewhere in its own."""
    writes, effects = [Write(0, 0, "0")], [(0.0, "0")]
    for number, (begun, acked) in enumerate(pairwise(moments[::2]), 1):
        done = data.draw(st.floats(begun, acked))
        writes.append(Write(begun, acked, str(number % 3)))
        effects.append((done, str(number % 3)))
    reads = []
    for _ in range(data.draw(st.integers(0, 12))):
        sent, looked, got = sorted(data.draw(st.floats(0.0, 400.0)) for _ in range(3))
        value = [value for done, value in effects if done <= looked][-1]
        reads.append(Read(sent, got, value))

    assert violations(writes, reads) == []
