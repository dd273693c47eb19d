"""Suspects wait for their turn: who runs when, and who may go first."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from marserve.batching.quarantine import Quarantine


def holding(*names):
    quarantine = Quarantine()
    for since, name in enumerate(names):
        quarantine.add(name, float(since))
    return quarantine


def test_suspects_run_one_at_a_time_in_order():
    quarantine = holding("a", "b")
    assert quarantine.is_due(has_fresh=True, must_share=True)

    assert quarantine.take() == ["a"]
    assert not quarantine.is_due(has_fresh=False, must_share=False)
    assert not quarantine.ended("b")
    assert quarantine.ended("a")

    assert quarantine.take() == ["b"]
    assert quarantine.ended("b")
    assert quarantine.is_empty


def test_a_lone_worker_is_shared_turn_and_turn_about():
    quarantine = holding("a", "b")
    quarantine.ended(*quarantine.take())

    assert not quarantine.is_due(has_fresh=True, must_share=True)
    assert quarantine.is_due(has_fresh=False, must_share=True)
    assert quarantine.is_due(has_fresh=True, must_share=False)
    quarantine.fresh_left()
    assert quarantine.is_due(has_fresh=True, must_share=True)


def test_who_gives_up_or_is_too_old_leaves():
    quarantine = holding("a", "b", "c", "d")

    assert quarantine.discard("b")
    assert not quarantine.discard("b")
    assert quarantine.oldest_since() == 0.0
    assert quarantine.drop_before(2.0) == ["a", "c"]
    assert quarantine.take_all() == ["d"]
    assert quarantine.oldest_since() is None
    assert quarantine.is_empty


@given(st.lists(st.sampled_from(["suspect", "fresh", "end"]), max_size=60))
def test_suspects_never_take_two_turns_in_a_row_while_others_wait(events):
    quarantine, turns = holding(*range(60)), []
    for event in events:
        if event == "suspect" and quarantine.is_due(has_fresh=True, must_share=True):
            quarantine.take()
            turns.append("suspect")
        elif event == "fresh":
            quarantine.fresh_left()
            turns.append("fresh")
        elif event == "end" and quarantine.running:
            quarantine.ended(quarantine.running[0])
    pairs = list(itertools.pairwise(turns))
    assert ("suspect", "suspect") not in pairs


@given(st.integers(0, 200))
def test_a_crowd_takes_about_the_root_of_its_number_of_turns(count):
    quarantine = Quarantine()
    quarantine.add_crowd([(0.0, number) for number in range(count)])
    groups = []
    while len(quarantine):
        groups.append(quarantine.take())
        for item in groups[-1]:
            assert quarantine.ended(item)

    assert [item for group in groups for item in group] == list(range(count))
    largest = max((len(group) for group in groups), default=0)
    assert largest == 1 if 0 < count <= 8 else len(groups) + largest <= 2 * count**0.5 + 2
