"""Which request of which sequence may run where, and when a sequence is over."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marserve.batching.sequences import SequenceLimits, Sequences

LIMITS = SequenceLimits(sequences=3, per_worker=2, waiting=2, idle_s=10.0, total_s=0.0)


def make(**limits):
    values = {
        "sequences": LIMITS.sequences,
        "per_worker": LIMITS.per_worker,
        "waiting": LIMITS.waiting,
        "idle_s": LIMITS.idle_s,
        "total_s": LIMITS.total_s,
    }
    return Sequences(SequenceLimits(**(values | limits)))


def test_requests_of_one_sequence_run_one_after_another_in_order():
    sequences = make()
    assert sequences.offer("s", "a1", 0.0) is None
    assert sequences.offer("s", "a2", 0.1) is None

    assert sequences.take("w", 8, 0.2) == ["a1"]
    assert sequences.take("w", 8, 0.3) == []
    sequences.finished("a1", 0.0)
    assert sequences.take("w", 8, 0.4) == ["a2"]


def test_a_batch_holds_one_request_of_each_sequence_oldest_first():
    sequences = make()
    for name, item, at in [("s", "s1", 0.2), ("t", "t1", 0.1), ("s", "s2", 0.3)]:
        assert sequences.offer(name, item, at) is None

    assert sequences.take("w", 8, 1.0) == ["t1", "s1"]


def test_a_batch_is_no_larger_than_there_is_room():
    sequences = make()
    for index, name in enumerate("stu"):
        sequences.offer(name, name, float(index))

    assert sequences.take("w", 1, 5.0) == ["s"]


def test_a_sequence_stays_with_the_worker_that_took_its_first_request():
    sequences = make()
    sequences.offer("s", "s1", 0.0)
    assert sequences.take("w", 8, 0.0) == ["s1"]
    sequences.finished("s1", 0.0)
    sequences.offer("s", "s2", 1.0)

    assert sequences.take("other", 8, 1.0) == []
    assert sequences.take("w", 8, 1.0) == ["s2"]


def test_a_worker_takes_no_more_sequences_than_it_may_have():
    sequences = make()
    for name in "stu":
        sequences.offer(name, name, 0.0)

    assert sequences.take("w", 8, 0.0) == ["s", "t"]
    assert sequences.take("other", 8, 0.0) == ["u"]


def test_too_many_sequences_and_too_many_requests_of_one_are_refused_with_the_reason():
    sequences = make()
    for name in "stu":
        assert sequences.offer(name, name, 0.0) is None
    assert "maxNumSequence" in sequences.offer("v", "v", 0.0)
    assert sequences.offer("s", "s2", 0.0) is None
    assert "maxSequenceJobQueueSize" in sequences.offer("s", "s3", 0.0)
    assert len(sequences) == 4


def test_an_idle_sequence_is_over_and_its_name_begins_anew_anywhere():
    sequences = make()
    sequences.offer("s", "s1", 0.0)
    sequences.take("w", 8, 0.0)
    sequences.finished("s1", 0.0)

    sequences.offer("s", "s2", 10.1)

    assert sequences.take("other", 8, 10.1) == ["s2"]


def test_a_sequence_that_runs_or_waits_is_not_idle():
    sequences = make()
    sequences.offer("s", "s1", 0.0)
    sequences.take("w", 8, 0.0)
    sequences.offer("s", "s2", 50.0)
    assert sequences.take("other", 8, 50.0) == []
    sequences.finished("s1", 0.0)
    assert sequences.take("w", 8, 90.0) == ["s2"]


def test_a_sequence_that_has_lasted_too_long_may_go_on_elsewhere():
    sequences = make(total_s=5.0)
    sequences.offer("s", "s1", 0.0)
    sequences.take("w", 8, 0.0)
    sequences.finished("s1", 0.0)
    sequences.offer("s", "s2", 4.0)

    assert sequences.take("other", 8, 5.5) == ["s2"]


def test_the_handler_can_end_a_sequence():
    sequences = make()
    sequences.offer("s", "s1", 0.0)
    sequences.take("w", 8, 0.0)
    sequences.end("s")
    sequences.finished("s1", 0.0)

    sequences.offer("s", "s2", 0.1)

    assert sequences.take("other", 8, 0.1) == ["s2"]


def test_ending_a_sequence_that_is_not_there_changes_nothing():
    sequences = make()
    sequences.end("nobody")
    assert sequences.count == 0


def test_a_worker_s_end_gives_back_what_waited_for_it_and_nothing_else():
    sequences = make()
    for name in "stu":
        sequences.offer(name, name + "1", 0.0)
        sequences.offer(name, name + "2", 0.1)
    assert sequences.take("w", 8, 0.2) == ["s1", "t1"]

    assert sequences.worker_gone("w") == ["s2", "t2"]

    assert sequences.count == 1
    assert sequences.take("other", 8, 0.3) == ["u1"]


def test_a_waiting_request_can_be_dropped_and_a_running_one_cannot():
    sequences = make()
    sequences.offer("s", "s1", 0.0)
    sequences.offer("s", "s2", 0.0)
    sequences.take("w", 8, 0.0)

    assert sequences.drop("s2")
    assert not sequences.drop("s2")
    assert not sequences.drop("s1")
    assert len(sequences) == 0


def test_everything_that_waits_can_be_taken_at_once():
    sequences = make()
    sequences.offer("s", "s1", 0.0)
    sequences.offer("t", "t1", 0.0)

    assert sequences.take_all() == ["s1", "t1"]
    assert (len(sequences), sequences.count) == (0, 0)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.sampled_from("stuv")),
        st.tuples(st.just("take"), st.sampled_from("wx")),
        st.tuples(st.just("finish"), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.floats(0.0, 8.0)),
        st.tuples(st.just("end"), st.sampled_from("stuv")),
        st.tuples(st.just("gone"), st.sampled_from("wx")),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(steps, st.integers(1, 3))
def test_nothing_is_lost_doubled_or_run_beside_its_own_sequence(script, per_worker):
    sequences = make(per_worker=per_worker, total_s=20.0)
    now, count = 0.0, 0
    waiting, running, left = defaultdict(list), {}, []
    for step, value in script:
        if step == "offer":
            count += 1
            if sequences.offer(value, (value, count), now) is None:
                waiting[value].append((value, count))
        elif step == "take":
            for item in sequences.take(value, 2, now):
                assert waiting[item[0]].pop(0) == item  # in order
                assert item[0] not in {name for name, _ in running}
                running[item] = value
        elif step == "finish" and running:
            item = list(running)[value % len(running)]
            del running[item]
            sequences.finished(item, now)
        elif step == "wait":
            now += value
        elif step == "end":
            sequences.end(value)
        elif step == "gone":
            for item in sequences.worker_gone(value):
                waiting[item[0]].remove(item)
                left.append(item)
            for item in [item for item, worker in running.items() if worker == value]:
                del running[item]
                sequences.finished(item, now)
        assert len(sequences) == sum(map(len, waiting.values()))


@pytest.mark.parametrize("limit", [1, 2])
def test_limits_hold_for_each_worker_by_itself(limit):
    sequences = make(per_worker=limit, sequences=9)
    for name in "abcdef":
        sequences.offer(name, name, 0.0)

    assert len(sequences.take("w", 9, 0.0)) == limit
    assert len(sequences.take("x", 9, 0.0)) == limit


def test_a_sequence_was_in_use_until_its_last_request_was_answered():
    sequences = make(idle_s=10.0)
    sequences.offer("s", "s1", 0.0)
    sequences.take("w", 8, 0.0)
    sequences.finished("s1", 30.0)

    sequences.offer("s", "s2", 39.0)

    assert sequences.take("other", 8, 39.0) == []
    assert sequences.take("w", 8, 39.0) == ["s2"]


def test_what_came_while_the_handler_ended_its_sequence_begins_it_anew_anywhere():
    sequences = make()
    sequences.offer("s", "s1", 0.0)
    sequences.take("w", 8, 0.0)
    sequences.end("s")
    sequences.offer("s", "s2", 0.1)
    sequences.finished("s1", 0.2)

    assert sequences.take("other", 8, 0.3) == ["s2"]
    assert sequences.workers(0.3) == {"other"}


def test_only_sequences_without_a_worker_wait_for_one():
    sequences = make()
    sequences.offer("s", "s1", 0.0)
    assert sequences.oldest_unbound() == 0.0
    sequences.take("w", 8, 1.0)
    sequences.offer("s", "s2", 2.0)
    assert sequences.oldest_unbound() is None
    sequences.offer("t", "t1", 3.0)

    assert sequences.oldest_unbound() == 3.0


def test_a_worker_may_be_given_a_larger_share_later():
    sequences = make(per_worker=1)
    for name in "ab":
        sequences.offer(name, name, 0.0)
    assert sequences.take("w", 9, 0.0) == ["a"]

    sequences.share(2)

    assert sequences.take("w", 9, 0.0) == ["b"]


def test_a_worker_is_in_use_until_its_sequences_are_over():
    sequences = make(idle_s=10.0)
    sequences.offer("s", "s1", 0.0)
    sequences.take("w", 8, 0.0)
    sequences.finished("s1", 1.0)

    assert sequences.workers(11.0) == {"w"}
    assert sequences.workers(11.1) == set()
