"""Which requests leave together, in which order, and when."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marserve.batching.window import Limits, Window

A, B, C, X = "a", "b", "c", "x"
"""A window tells requests apart by identity."""


def window(size=4, delay_s=0.1, items=(), now=0.0):
    made = Window(Limits(size, delay_s))
    for item in items:
        made.add(item, now)
    return made


def taught(size=8, delay_s=0.1):
    """A window that knows: a batch costs 10 ms, and two clients come back half a ms after it."""
    made = Window(Limits(size, delay_s))
    now = 0.0
    for number in range(20):
        made.answered(1 + number % 2, 0.010, now)
        for item in range(2):
            made.add(item, now + 0.0005)
        made.take()
        now += 0.011
    made.answered(2, 0.010, now)
    return made, now


def test_an_empty_window_is_never_due():
    assert window().due_at(5.0) is None
    assert window().take() == []
    assert window().oldest_since() is None


def test_what_waits_is_due_at_once_when_nothing_was_learned():
    assert window(items="a").due_at(5.0) == 5.0


def test_a_batch_leaves_in_the_order_of_arrival_and_never_larger_than_its_limit():
    w = window(size=2, items="abcde")

    assert [w.take(), w.take(), w.take(), w.take()] == [["a", "b"], ["c", "d"], ["e"], []]
    assert len(w) == 0


def test_what_is_to_be_alone_leaves_first_and_alone():
    w = window(items="ab")
    w.isolate("xy", since=0.0)

    assert len(w) == 4
    assert w.due_at(1.0) == 1.0
    assert [w.take(), w.take(), w.take()] == [["x"], ["y"], ["a", "b"]]


def test_what_is_put_back_leaves_before_what_came_later():
    w = window(size=3, items="cd", now=2.0)
    w.put_back("ab", since=1.0)

    assert w.oldest_since() == 1.0
    assert [w.take(), w.take()] == [["a", "b", "c"], ["d"]]


def test_what_is_put_back_does_not_overtake_what_came_earlier():
    # two workers died: the one with the older batch first
    w = window(size=2, items="ef", now=3.0)
    w.put_back("ab", since=1.0)
    w.put_back("cd", since=2.0)

    assert w.oldest_since() == 1.0
    assert w.drop_before(1.0) == ["a", "b"]
    assert [w.take(), w.take()] == [["c", "d"], ["e", "f"]]


def test_what_is_too_old_is_dropped_and_the_rest_stays():
    w = window(items="a", now=1.0)
    w.add("b", 2.0)
    w.add("c", 3.0)
    w.isolate("x", since=2.5)
    w.isolate("y", since=0.5)

    assert w.oldest_since() == 0.5
    assert w.drop_before(2.0) == ["y", "a", "b"]
    assert w.drop_before(2.0) == []
    assert w.oldest_since() == 2.5
    assert [w.take(), w.take()] == [["x"], ["c"]]


def test_everything_can_be_taken_at_once():
    w = window(items="ab")
    w.isolate("x", since=0.0)

    assert w.take_all() == ["x", "a", "b"]
    assert len(w) == 0
    assert w.take_all() == []


def test_a_window_that_is_likely_to_fill_is_held_for_a_moment():
    w, now = taught()
    w.add("a", now + 0.0001)

    due = w.due_at(now + 0.0001)

    assert now + 0.0005 <= due <= now + 0.001
    assert w.due_at(due) == due
    assert w.take(due) == ["a"]
    assert w.held_s == pytest.approx(due - now - 0.0001)


def test_when_all_are_back_nobody_is_waited_for():
    w, now = taught()
    w.add("a", now + 0.0001)
    w.add("b", now + 0.0002)

    assert w.due_at(now + 0.0002) == now + 0.0002


def test_nobody_is_held_while_another_worker_is_free():
    w, now = taught()
    w.add("a", now + 0.0001)

    assert w.due_at(now + 0.0001, idle=2) == now + 0.0001
    assert w.due_at(now + 0.0001, idle=1) > now + 0.0001


def test_a_full_window_is_due_at_once():
    w, now = taught(size=2)
    w.add("a", now + 0.0001)
    assert w.due_at(now + 0.0001) > now + 0.0001

    w.add("b", now + 0.0002)

    assert w.due_at(now + 0.0002) == now + 0.0002


def test_a_suspect_is_never_held():
    w, now = taught()
    w.add("a", now)
    w.isolate("x", since=now)

    assert w.due_at(now) == now


def test_nothing_is_held_longer_than_the_delay_while_a_worker_is_free():
    # two come back, one after the other
    w, now = Window(Limits(8, 0.002)), 0.0
    for n in (1, 2, 4) * 8:
        w.service.observe(n, 0.010)
    for _ in range(20):
        w.answered(2, 0.010, now)
        w.add("x", now + 0.0005)
        w.add("y", now + 0.004)
        w.take()
        now += 0.014
    w.answered(2, 0.010, now)
    w.add("a", now - 0.5)  # that it waited for a worker does not count
    due = w.due_at(now)

    assert now < due <= now + 0.002
    assert w.due_at(now + 0.001) <= now + 0.002
    assert w.due_at(now + 0.002) == now + 0.002


def test_a_deadline_ends_a_wait_in_time():
    w, now = taught()
    w.add(A, now + 0.0001)
    w.set_deadline(A, now + w.service.slow_s(2) + 0.0003)
    assert w.due_at(now + 0.0001) == pytest.approx(now + 0.0003)

    w.set_deadline(A, now + w.service.slow_s(2))
    assert w.due_at(now + 0.0001) == now + 0.0001


def test_requests_without_deadlines_pass_one_that_would_shrink_their_batch():
    w, now = taught(size=8)
    for item in (A, B, C, "d", "e", "f"):
        w.add(item, now)
    w.set_deadline(B, now + 1.01 * w.service.slow_s(1))

    assert w.take(now) == [A, C, "d", "e", "f"]
    assert w.take(now) == [B]
    assert not w.has_deadlines()


def test_hopeless_requests_leave_and_the_others_stay():
    w, now = taught()
    for item in (A, B, C):
        w.add(item, now)
    w.isolate([X], since=now)
    w.set_deadline(B, now + 0.001)
    w.set_deadline(X, now - 1.0)
    w.set_deadline(C, now + 1.0)

    assert w.drop_hopeless(now) == [X, B]
    assert w.take_all() == [A, C]
    assert not w.has_deadlines()


@pytest.mark.parametrize(
    ("costs", "batches"),
    [
        ([3, 3, 3, 3], [[3, 3, 3], [3]]),
        ([10, 1, 1], [[10], [1, 1]]),
        ([99, 1], [[99], [1]]),
        ([1, 1, 1, 1, 1], [[1, 1, 1, 1], [1]]),
    ],
)
def test_a_batch_costs_no_more_than_it_may_unless_it_is_one_request(costs, batches):
    w = Window(Limits(4, 0.1, 10.0), float)
    for cost in costs:
        w.add(cost, 0.0)

    assert [w.take(), w.take()] == batches


def test_after_memory_ran_out_batches_are_half_as_large():
    w = window(size=8, items=range(8))
    w.ran_out_of_memory(8)

    assert w.due_at(0.0) == 0.0
    assert [w.take(), w.take()] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_delay_of_zero_holds_nothing():
    w, now = taught(delay_s=0.0)
    w.add("a", now)

    assert w.due_at(now) == now


# --- any interleaving -----------------------------------------------------------------------------

steps = st.tuples(
    # weighted so that several batches are out at once, and come back in any order
    st.sampled_from(
        ["add"] * 3 + ["take"] * 3 + ["put_back"] * 2 + ["time", "isolate", "drop", "answered"]
    ),
    st.integers(0, 20),
)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5), st.floats(0.0, 1.0), st.lists(steps, min_size=30, max_size=80))
def test_no_interleaving_loses_doubles_or_reorders_a_request(size, delay_s, sequence):
    """Against a model: each request is its number; `came` says since when it counts as waiting."""
    w, now, made = Window(Limits(size, delay_s)), 0.0, 0
    came, waiting, suspects, out, gone = {}, [], deque(), [], []
    for what, amount in sequence:
        if what == "add":
            for _ in range(amount % 6):
                w.add(made, now)
                came[made] = now
                waiting.append(made)
                made += 1
        elif what == "take":
            batch = w.take()
            expected = [suspects.popleft()] if suspects else waiting[:size]
            assert batch == expected
            waiting = [item for item in waiting if item not in batch]
            if batch:
                out.append(batch)
        elif what == "put_back" and out:
            batch = out.pop(amount % len(out))
            w.put_back(batch, came[batch[0]])
            came.update(dict.fromkeys(batch, came[batch[0]]))
            waiting = sorted(batch + waiting, key=came.__getitem__)
        elif what == "isolate" and out:
            batch = out.pop(amount % len(out))
            w.isolate(batch, came[batch[0]])
            came.update(dict.fromkeys(batch, came[batch[0]]))
            suspects.extend(batch)
        elif what == "drop":
            dropped = w.drop_before(now - amount / 10)
            old = [item for item in (*suspects, *waiting) if came[item] <= now - amount / 10]
            assert dropped == old
            waiting = [item for item in waiting if item not in dropped]
            suspects = deque(item for item in suspects if item not in dropped)
            gone += dropped
        elif what == "answered" and out:
            batch = out.pop(amount % len(out))
            w.answered(len(batch), amount / 100, now)
            gone += batch
        elif what == "time":
            now += amount / 10
        assert len(w) == len(waiting) + len(suspects)
        present = [came[item] for item in (*suspects, *waiting)]
        assert w.oldest_since() == min(present, default=None)
        due = w.due_at(now)
        assert (due is None) == (not waiting and not suspects)
        if due is not None:
            assert now <= due <= now + min(delay_s, 0.064)
    left = w.take_all()
    assert left == [*suspects, *waiting]
    assert sorted([*left, *gone, *(item for batch in out for item in batch)]) == list(range(made))


def test_nobody_joins_others_while_one_waits_that_must_be_alone():
    window = Window(Limits(4, 0.0))
    window.add("a", 0.0)
    window.isolate(["suspect"], 0.0)

    assert window.take_to_join(3) == []
    assert window.take() == ["suspect"]
    assert window.take_to_join(3) == ["a"]
