"""Who gives way in a full queue: the less urgent, then the greedy; never one's equals."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.batching.census import Census
from marserve.request import HIGH, LOW, NORMAL


@pytest.mark.parametrize(
    ("waiting", "newcomer", "expected"),
    [
        ([], (NORMAL, "a"), None),
        ([(NORMAL, "a")] * 3, (NORMAL, "a"), None),
        ([(NORMAL, "a")] * 3, (NORMAL, "b"), (NORMAL, "a")),
        ([(NORMAL, "a")], (NORMAL, "b"), None),
        ([(NORMAL, "a")] * 2 + [(NORMAL, "b")], (NORMAL, "b"), None),
        ([(NORMAL, "a")] * 3 + [(NORMAL, "b")], (NORMAL, "b"), (NORMAL, "a")),
        ([(LOW, "b")], (NORMAL, "b"), (LOW, "b")),
        ([(LOW, "b"), (LOW, "a"), (LOW, "a"), (NORMAL, "c")], (HIGH, "x"), (LOW, "a")),
        ([(HIGH, "a")] * 9, (NORMAL, "b"), None),
        ([(HIGH, "a")] * 9 + [(NORMAL, "c")], (NORMAL, "b"), None),
    ],
)
def test_a_newcomer_takes_the_place_of_the_less_urgent_or_of_the_greedy(
    waiting, newcomer, expected
):
    assert Census(waiting).victim(*newcomer) == expected


ONE = st.tuples(st.integers(0, 3), st.sampled_from("abcde"))


@given(st.lists(ONE, max_size=40), st.lists(st.integers(0, 100)), ONE)
def test_whoever_comes_and_goes_the_census_is_of_those_that_wait(came, leaving, newcomer):
    census, waiting = Census(), []
    for one in came:
        census.entered(*one)
        waiting.append(one)
    for index in leaving:
        if waiting:
            census.left(*waiting.pop(index % len(waiting)))
    assert len(census) == len(waiting)
    victim, other = census.victim(*newcomer), Census(waiting).victim(*newcomer)
    places = Counter(waiting)  # of several that hold the most either may be chosen
    assert (victim and places[victim]) == (other and places[other])


@given(st.lists(ONE, min_size=1, max_size=40), ONE)
def test_who_gives_way_waits_is_never_more_urgent_and_shares_become_more_even(waiting, newcomer):
    victim = Census(waiting).victim(*newcomer)
    if victim is None:
        return
    assert victim in waiting
    assert victim[0] >= newcomer[0]
    if victim[0] == newcomer[0]:
        held = Counter(client for rank, client in waiting if rank == newcomer[0])
        assert held[victim[1]] - 1 >= held[newcomer[1]] + 1


@given(st.lists(st.sampled_from("abc"), min_size=200, max_size=400))
def test_a_greedy_client_ends_with_its_share_however_much_it_asks(arrivals):
    """Every arrival is offered a full queue of 30, of which `greedy` had all."""
    waiting = [(NORMAL, "greedy")] * 30
    for client in [*arrivals, *"abc" * 30]:
        victim = Census(waiting).victim(NORMAL, client)
        if victim is not None:
            waiting.remove(victim)
            waiting.append((NORMAL, client))
    held = Counter(client for _, client in waiting)
    assert max(held.values()) - min(held[name] for name in "abc") <= 1
