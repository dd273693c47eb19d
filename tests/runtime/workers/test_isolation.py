"""When a batch fails as a whole, only the bad rows are to blame, and few runs show which."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.workers.isolation import Failed, answers

BAD = (b"bad", None)


class Rows:
    """`bad` rows fail whatever they are with; so does a run of more than `most` rows."""

    def __init__(self, size, bad=(), most=10**6, is_final=False):
        self.size, self.bad, self.most, self.is_final = size, set(bad), most, is_final
        self.runs = []

    def run(self, start, stop):
        self.runs.append((start, stop))
        if stop - start > self.most:
            return Failed((b"no memory", None), is_too_large=True)
        if self.bad & set(range(start, stop)):
            return Failed(BAD, is_final=self.is_final)
        return [(str(row).encode(), None) for row in range(start, stop)]

    def answers(self):
        return [body.decode() for body, _ in answers(self.size, self.run)]


@pytest.mark.parametrize(
    ("size", "bad", "runs"),
    [
        pytest.param(32, [], 1, id="none is bad"),
        pytest.param(1, [0], 1, id="one that is bad"),
        pytest.param(2, [1], 3, id="one of two"),
        pytest.param(32, [17], 11, id="one of 32"),
        pytest.param(32, range(32), 35, id="all 32"),
    ],
)
def test_so_many_runs_show_which_rows_are_bad(size, bad, runs):
    rows = Rows(size, bad)

    assert rows.answers() == ["bad" if row in bad else str(row) for row in range(size)]
    assert len(rows.runs) == runs


def test_a_batch_too_large_for_the_memory_is_halved_until_it_is_not():
    rows = Rows(32, most=5)

    assert rows.answers() == [str(row) for row in range(32)]
    assert {stop - start for start, stop in rows.runs} == {32, 16, 8, 4}


def test_a_row_that_needs_more_memory_than_there_is_gets_that_answer():
    assert Rows(2, most=0).answers() == ["no memory", "no memory"]


def test_what_must_not_be_tried_again_is_not():
    rows = Rows(8, bad=[3], is_final=True)

    assert rows.answers() == ["bad"] * 8
    assert rows.runs == [(0, 8)]


@given(
    st.integers(1, 64).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))),
    st.integers(1, 64),
)
def test_every_row_gets_its_own_answer_and_no_more_runs_than_needed(sized, most):
    size, bad = sized
    rows = Rows(size, bad, most)

    assert rows.answers() == ["bad" if row in bad else str(row) for row in range(size)]
    assert len(rows.runs) == len(set(rows.runs)) <= 3 * size + 2


@given(st.integers(1, 40), st.data())
def test_rows_that_may_run_once_run_once_and_the_others_get_their_answers(size, data):
    """F06, I3: whatever is bad, and whatever may not be repeated."""
    some = st.sets(st.integers(0, size - 1))
    bad, once = data.draw(some), data.draw(some)
    rows = Rows(size, bad)

    found = [body for body, _ in answers(size, rows.run, lambda: once)]

    for row in range(size):
        runs = sum(start <= row < stop for start, stop in rows.runs)
        expected = b"bad" if row in bad else str(row).encode()
        if row in once:
            assert runs == 1
            assert found[row] == (b"bad" if bad else expected)
        else:
            assert found[row] == expected
