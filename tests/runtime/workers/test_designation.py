"""Which worker runs suspects: one, the same one, and not the last."""

from marserve.workers.designation import Designation
from marserve.workers.lifecycle import State

READY, STARTING, STOPPING = State.READY, State.STARTING, State.STOPPING


def choose(designation, states, quiet=()):
    return designation.choose(states, lambda name: name in quiet)


def test_one_with_nothing_to_do_is_preferred():
    assert choose(Designation(), {"a": READY, "b": READY}, quiet=("b",)) == "b"


def test_it_stays_the_same_while_it_lives_and_comes_back():
    designation = Designation()
    assert choose(designation, {"a": READY, "b": READY}) == "a"

    assert choose(designation, {"b": READY, "a": STARTING}, quiet=("b",)) == "a"
    assert choose(designation, {"b": READY, "a": READY}, quiet=("b",)) == "a"


def test_another_takes_the_part_when_it_is_gone_or_leaves():
    designation = Designation()
    choose(designation, {"a": READY, "b": READY})

    assert choose(designation, {"a": STOPPING, "b": READY}) == "b"
    assert choose(designation, {"c": READY}) == "c"


def test_the_last_that_serves_is_spared_while_another_is_on_its_way():
    designation = Designation()

    assert choose(designation, {"a": READY, "b": STARTING}) is None
    assert choose(designation, {"a": READY}) == "a"


def test_without_a_worker_there_is_none():
    assert choose(Designation(), {"a": STARTING}) is None
    assert choose(Designation(), {}) is None


def test_who_is_released_is_not_held_to_it():
    designation = Designation()
    choose(designation, {"a": READY, "b": READY})
    designation.release()

    assert choose(designation, {"a": READY, "b": READY}, quiet=("b",)) == "b"
