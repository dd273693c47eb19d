"""When workers that keep dying are tried again: crash loops, failed loads, probes (F34, F42)."""

from dataclasses import replace
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.workers.causes import Cause, Ending
from marserve.workers.lifecycle import Lifecycle, SpawnWorker, State, StopWorker, WakeAt
from marserve.workers.restarts import PROBE_EVERY_S, Restarts, Standing, delay_s

numbers = count(1)


def crash(cause=Cause.CRASHED, is_of_load=False):
    return Ending(cause, "it died", next(numbers), is_of_load)


def serving(workers=1, most=None):
    life = Lifecycle((f"W-{n}" for n in count(1)).__next__, most)
    life.want(workers, 0.0)
    for worker in life.states():
        life.loaded(worker, 0.0)
    return life


def spawned(instructions):
    return [one.worker for one in instructions if isinstance(one, SpawnWorker)]


def crash_looping(now=0.0):
    """A version with one worker that has died six times, 0.5 s apart, from `now` on."""
    life = serving()
    for _ in range(6):
        now += 0.5
        life.tick(now + 60.0)  # however long it waits to come back
        if life.states().get("W-1") is State.STARTING:
            life.loaded("W-1", now)
        life.ended("W-1", crash(), now, 0.0)
    assert life.standing is Standing.CRASH_LOOP
    return life, now


def test_six_deaths_within_a_minute_and_no_success_are_a_crash_loop():
    restarts = Restarts()
    for second in range(5):
        restarts.died(crash(), float(second))
    assert restarts.standing is Standing.SOUND

    restarts.died(crash(), 59.0)

    assert restarts.standing is Standing.CRASH_LOOP
    assert restarts.next_probe_at == 59.0 + PROBE_EVERY_S


def test_deaths_that_are_spread_out_are_none():
    restarts = Restarts()
    for number in range(50):
        restarts.died(crash(), number * 13.0)
    assert restarts.standing is Standing.SOUND


def test_a_success_in_between_starts_the_count_anew():
    restarts = Restarts()
    for number in range(50):
        restarts.died(crash(), number * 0.1)
        if number % 5 == 4:
            restarts.succeeded()
    assert restarts.standing is Standing.SOUND


@pytest.mark.parametrize("cause", [Cause.KILLED, Cause.ORPHANED, Cause.HUNG])
def test_workers_that_are_killed_or_got_slow_requests_say_nothing_of_their_version(cause):
    restarts = Restarts()
    for number in range(50):
        restarts.died(crash(cause), number * 0.1)
    assert restarts.standing is Standing.SOUND


def test_deaths_with_requests_that_are_tried_do_not_count():
    restarts = Restarts()
    for number in range(50):
        restarts.died(replace(crash(), is_in_question=True), number * 0.1)
    assert restarts.standing is Standing.SOUND


def test_the_worker_of_a_trial_comes_back_at_once_however_often():
    life = serving()
    for _ in range(20):
        ending = replace(crash(), is_in_question=True, is_of_trial=True)
        assert spawned(life.ended("W-1", ending, 1.0)) == ["W-1"]
        life.loaded("W-1", 1.0)


@pytest.mark.parametrize(
    "ending",
    [
        lambda: crash(Cause.LOAD_FAILED, is_of_load=True),
        lambda: crash(Cause.CRASHED, is_of_load=True),
        lambda: crash(Cause.OUT_OF_MEMORY, is_of_load=True),
    ],
)
def test_three_failed_loads_in_a_row_are_enough(ending):
    restarts = Restarts()
    for _ in range(2):
        restarts.died(ending(), 1.0)
    restarts.loaded()
    for _ in range(2):
        restarts.died(ending(), 2.0)
    assert restarts.standing is Standing.SOUND

    restarts.died(ending(), 3.0)

    assert restarts.standing is Standing.LOAD_FAILED
    restarts.loaded()
    assert restarts.standing is Standing.SOUND


@given(st.integers(0, 10**6), st.floats(0.0, 1.0))
def test_a_wait_is_a_share_of_the_longest_one(failures, roll):
    assert delay_s(failures, roll) == roll * delay_s(failures)
    assert 0.0 <= delay_s(failures, roll) <= 30.0


def test_in_a_crash_loop_one_worker_is_tried_every_thirty_seconds_for_ever():
    life, now = crash_looping()
    first = now + PROBE_EVERY_S
    tries = []
    for tenth in range(36_000):
        moment = now + tenth / 10.0
        for worker in spawned(life.tick(moment)):
            tries.append(moment)
            life.loaded(worker, moment)
            life.ended(worker, crash(), moment + 0.01)

    assert len(tries) == 119
    assert tries[0] == pytest.approx(first)
    gaps = {round(b - a, 6) for a, b in pairwise(tries)}
    assert gaps <= {30.0, 30.1}


def test_a_probe_that_answers_ends_the_crash_loop_for_all():
    life = serving(3)
    for _ in range(6):
        life.tick(1.0)
        for worker, state in life.states().items():
            if state is State.STARTING:
                life.loaded(worker, 1.0)
        if life.states():
            life.ended(next(iter(life.states())), crash(), 1.0, 0.0)
    for worker in life.states():
        life.ended(worker, crash(), 1.0)
    [probe] = spawned(life.tick(32.0))
    assert spawned(life.loaded(probe, 33.0)) == []
    assert life.standing is Standing.CRASH_LOOP

    assert len(spawned(life.proved_healthy(probe, 34.0))) == 2
    assert life.standing is Standing.SOUND


def test_a_probe_that_nobody_asks_anything_has_proved_itself_after_a_while():
    life, now = crash_looping()
    [probe] = spawned(life.tick(now + 30.0))
    life.loaded(probe, now + 31.0)

    life.tick(now + 60.5)
    assert life.standing is Standing.CRASH_LOOP
    life.tick(now + 61.0)
    assert life.standing is Standing.SOUND


def test_a_crash_loop_says_when_the_next_worker_is_tried():
    life, now = crash_looping()

    assert life.probe_in_s(now + 10.0) == 20.0
    assert life.retry_s("W-1", now + 10.0) == 20.0
    assert life.tick(now + 10.0) == [WakeAt(now + 30.0)]


def test_somebody_s_wish_ends_a_crash_loop_and_the_load_s_does_not():
    life, now = crash_looping()
    assert spawned(life.want(2, now, forgive=False)) == []
    assert life.standing is Standing.CRASH_LOOP

    assert len(spawned(life.want(2, now))) == 2
    assert life.standing is Standing.SOUND


def test_who_cannot_load_beside_workers_that_serve_is_tried_every_thirty_seconds():
    life = serving(2)
    life.ended("W-2", crash(), 0.0)
    for _ in range(3):
        life.tick(30.0)
        life.ended("W-2", crash(Cause.LOAD_FAILED, is_of_load=True), 30.0, 0.0)
    assert life.standing is Standing.LOAD_FAILED

    assert spawned(life.tick(59.0)) == []
    assert spawned(life.tick(60.0)) == ["W-2"]
    assert spawned(life.tick(90.0)) == []  # it still loads


def test_a_poison_request_s_worker_comes_back_at_once():
    life = serving()
    life.ended("W-1", crash(), 1.0)
    life.loaded("W-1", 2.0)
    assert spawned(life.ended("W-1", crash(), 2.0, 1.0)) == []

    assert spawned(life.explained(["W-1"], 2.0)) == ["W-1"]
    assert life.failures == 0


# --- workers that are worn (F46) ------------------------------------------------------------------


def test_a_worn_worker_goes_when_its_successor_is_ready():
    life = serving(2)

    assert life.recycle("W-1", 1.0) == [SpawnWorker("W-3")]
    life.check()
    assert life.loaded("W-3", 2.0) == [StopWorker("W-1")]
    assert life.ended("W-1", Ending(Cause.RECYCLED, "worn"), 3.0) == []
    assert life.states() == {"W-2": State.READY, "W-3": State.READY}
    assert not life.is_recycling


def test_worn_workers_go_one_after_another():
    life = serving(2)
    life.recycle("W-1", 1.0)
    assert life.recycle("W-2", 1.0) == []
    life.check()

    assert life.loaded("W-3", 2.0) == [StopWorker("W-1"), SpawnWorker("W-4")]
    assert life.loaded("W-4", 2.0) == [StopWorker("W-2")]


def test_where_there_is_no_room_for_one_more_the_worn_worker_goes_first():
    life = serving(2, most=2)

    assert life.recycle("W-1", 1.0) == [StopWorker("W-1")]
    assert spawned(life.tick(2.0)) == []
    assert life.ended("W-1", Ending(Cause.RECYCLED, "worn"), 3.0) == [SpawnWorker("W-3")]


def test_a_worn_worker_stays_while_its_successor_cannot_load():
    life = serving(1)
    life.recycle("W-1", 1.0)
    for _ in range(3):
        life.ended("W-2", crash(Cause.LOAD_FAILED, is_of_load=True), 1.0, 0.0)
        life.tick(1.0)
        life.check()
    assert life.states()["W-1"] is State.READY

    life.tick(31.0)
    assert life.loaded("W-2", 32.0) == [StopWorker("W-1")]


def test_a_worn_worker_that_dies_is_replaced_by_the_successor_alone():
    life = serving(1)
    life.recycle("W-1", 1.0)

    assert spawned(life.ended("W-1", crash(), 1.5)) == []
    assert life.vacant() == ()
    assert life.loaded("W-2", 2.0) == []


def test_of_surplus_workers_the_worn_one_goes():
    life = serving(3)
    life.recycle("W-1", 1.0)

    assert life.want(2, 2.0) == [StopWorker("W-1"), StopWorker("W-4")]
