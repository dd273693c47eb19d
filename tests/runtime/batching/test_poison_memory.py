"""What is remembered of requests that killed workers, for how long, and of how many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.batching.poison_memory import Past, PoisonMemory
from marserve.request import Request


def request(body=b"x", name="body", kind="", explain=None, path=None, id_="r", headers=()):
    return Request(id_, list(headers), [(name, kind, body)], explain, path)


def is_known(memory, asked, now):
    return memory.past(memory.digest(asked), now) is not Past.CLEAN


def is_refused(memory, asked, now):
    return memory.past(memory.digest(asked), now) is Past.REFUSED


def convict(memory, asked, now):
    memory.convict(memory.digest(asked), now)


def test_a_request_is_known_after_the_first_time_and_refused_after_the_second():
    memory = PoisonMemory("m/1.0")
    assert not is_known(memory, request(), 0.0)

    convict(memory, request(), 0.0)
    assert is_known(memory, request(), 1.0)
    assert not is_refused(memory, request(), 1.0)

    convict(memory, request(), 2.0)
    assert is_refused(memory, request(), 3.0)


def test_ten_minutes_after_the_last_time_it_is_forgotten():
    memory = PoisonMemory("m/1.0")
    convict(memory, request(), 0.0)
    convict(memory, request(), 500.0)

    assert is_refused(memory, request(), 1099.0)
    assert not is_known(memory, request(), 1100.0)
    memory.forget(1099.0)
    assert len(memory) == 1
    memory.forget(1100.0)
    assert len(memory) == 0


def test_who_was_answered_is_innocent():
    memory = PoisonMemory("m/1.0")
    convict(memory, request(), 0.0)
    memory.acquit(memory.digest(request()))
    memory.acquit(memory.digest(request(b"a stranger")))

    assert not is_known(memory, request(), 1.0)


def test_the_longest_ago_are_forgotten_when_there_are_too_many():
    memory = PoisonMemory("m/1.0", most=3)
    for moment, body in enumerate((b"a", b"b", b"c", b"a", b"d")):
        convict(memory, request(body), float(moment))

    assert len(memory) == 3
    assert not is_known(memory, request(b"b"), 5.0)
    assert is_refused(memory, request(b"a"), 5.0)


def test_who_sends_it_and_under_which_name_makes_no_difference():
    memory = PoisonMemory("m/1.0")
    convict(memory, request(id_="one", headers=[("x", "y")]), 0.0)

    assert is_known(memory, request(id_="two"), 1.0)


@pytest.mark.parametrize(
    "other",
    [
        request(b"y"),
        request(name="data"),
        request(kind="text/plain"),
        request(explain=True),
        request(path="a"),
        Request("r", [], [("body", "", b"x"), ("body", "", b"")]),
        Request("r", [], []),
    ],
)
def test_what_the_handler_sees_makes_the_difference(other):
    memory = PoisonMemory("m/1.0")
    convict(memory, request(), 0.0)

    assert not is_known(memory, other, 1.0)


parts = st.lists(st.tuples(st.text(), st.text(), st.binary()), max_size=3)


@given(parts, parts)
def test_no_two_rows_are_taken_for_the_same(one, other):
    memory = PoisonMemory("m/1.0")
    convict(memory, Request("r", [], one), 0.0)

    assert is_known(memory, Request("r", [], other), 0.0) == (one == other)
