"""Which workers are started and stopped, and when: decided without a process or a clock."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.workers.causes import Cause, Ending
from marserve.workers.lifecycle import (
    LEGAL,
    IllegalTransition,
    Lifecycle,
    SpawnWorker,
    State,
    StopWorker,
    WakeAt,
)
from marserve.workers.restarts import delay_s

DIED = Ending(Cause.CRASHED, "killed by signal 11 (SIGSEGV)")
STOPPED = Ending(Cause.REQUESTED, "stopped")


@pytest.fixture
def life():
    numbers = count(1)
    life = Lifecycle(lambda: f"W-{next(numbers)}")
    yield life
    life.check()


def spawn(*names):
    return [SpawnWorker(name) for name in names]


def started(life, workers, now=0.0):
    """`life` with so many ready workers, called W-1, W-2 …"""
    life.want(workers, now)
    for number in range(1, workers + 1):
        assert life.loaded(f"W-{number}", now) == []


def test_the_wanted_workers_are_all_started_at_once(life):
    assert life.want(3, 0.0) == spawn("W-1", "W-2", "W-3")
    assert life.states() == dict.fromkeys(("W-1", "W-2", "W-3"), State.STARTING)


def test_those_that_are_spared_leave_last(life):
    started(life, 3)

    assert life.want(1, 1.0, spared={"W-3"}) == [StopWorker("W-2"), StopWorker("W-1")]
    assert life.want(0, 2.0, spared={"W-3"}) == [StopWorker("W-3")]


def test_wanting_what_is_there_changes_nothing(life):
    started(life, 2)

    assert life.want(2, 1.0) == []
    assert life.tick(2.0) == []


def test_more_workers_are_started_beside_those_that_serve(life):
    started(life, 1)

    assert life.want(3, 1.0) == spawn("W-2", "W-3")


def test_those_that_still_load_leave_first_and_then_the_youngest(life):
    started(life, 3)
    life.want(5, 0.0)

    assert life.want(1, 1.0) == [
        StopWorker("W-5"),
        StopWorker("W-4"),
        StopWorker("W-3"),
        StopWorker("W-2"),
    ]


def test_a_worker_that_leaves_is_not_counted_and_not_stopped_twice(life):
    started(life, 2)
    assert life.want(1, 1.0) == [StopWorker("W-2")]

    assert life.want(2, 2.0) == spawn("W-3")
    assert life.want(1, 3.0) == [StopWorker("W-3")]
    assert life.ended("W-2", STOPPED, now=4.0) == []
    assert life.ended("W-3", STOPPED, now=5.0) == []


def test_a_dead_worker_comes_back_at_once_under_its_name(life):
    started(life, 2)

    assert life.ended("W-1", DIED, now=10.0) == spawn("W-1")
    assert list(life.states()) == ["W-2", "W-1"]
    assert life.failures == 1


def test_a_worker_that_keeps_dying_is_waited_for_longer_and_longer(life):
    now = 0.0
    assert life.want(1, now) == spawn("W-1")
    assert life.ended("W-1", DIED, now=now) == spawn("W-1")
    waits = []
    for _ in range(9):
        [wake] = life.ended("W-1", DIED, now=now)
        assert life.vacant() == ("W-1",)
        assert life.tick(wake.when - 0.001) == [wake]
        waits.append(wake.when - now)
        now = wake.when
        assert life.tick(now) == spawn("W-1")
        assert life.vacant() == ()

    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("failures", "expected"),
    [(0, 0.0), (1, 0.0), (2, 0.5), (3, 1.0), (7, 16.0), (8, 30.0), (5_000, 30.0), (10**9, 30.0)],
)
def test_the_delay_grows_to_a_limit_and_never_overflows(failures, expected):
    assert delay_s(failures) == expected


def test_while_no_worker_serves_they_are_tried_one_at_a_time_from_the_third_failure_on(life):
    now = 0.0
    life.want(2, now)
    for worker in ("W-1", "W-2"):
        life.ended(worker, DIED, now=now)  # the first replacement comes at once
        life.ended(worker, DIED, now=now)
    life.tick(0.5)
    life.ended("W-1", DIED, now=0.5)
    life.ended("W-2", DIED, now=0.5)

    assert life.tick(60.0) == spawn("W-1")
    assert life.tick(61.0) == []
    assert life.loaded("W-1", 62.0) == spawn("W-2")


def test_a_healthy_worker_does_not_hide_that_another_always_fails(life):
    started(life, 2)
    now, lives = 0.0, 0
    while now < 60.0:
        instructions = life.ended("W-2", DIED, now=now)
        life.proved_healthy("W-1", now)
        wakes = [i.when for i in instructions if isinstance(i, WakeAt)]
        if wakes:
            now = wakes[0]
            assert life.tick(now) == spawn("W-2")
        lives += 1

    assert lives < 12
    assert life.failures == lives


def test_an_answered_batch_ends_the_series_of_failures(life):
    started(life, 1)
    for _ in range(2):
        for instruction in life.ended("W-1", DIED, now=0.0):
            if isinstance(instruction, WakeAt):
                life.tick(instruction.when)
        life.loaded("W-1", 1.0)
    assert life.failures == 2

    life.proved_healthy("W-1", 1.0)

    assert life.failures == 0
    assert life.ended("W-1", DIED, now=2.0) == spawn("W-1")


def test_a_new_wish_ends_a_back_off(life):
    started(life, 1)
    life.ended("W-1", DIED, now=0.0)
    assert life.ended("W-1", DIED, now=0.0) == [WakeAt(0.5)]

    assert life.want(2, 0.1) == spawn("W-1", "W-2")
    assert life.failures == 0


def test_a_worker_nobody_wants_any_more_does_not_come_back(life):
    started(life, 2)
    life.ended("W-1", DIED, now=0.0)
    assert life.ended("W-1", DIED, now=0.0) == [WakeAt(0.5)]
    assert life.vacant() == ("W-1",)

    assert life.want(1, 0.1) == []
    assert life.vacant() == ()
    assert life.tick(100.0) == []


def test_a_worker_that_backs_off_is_forgotten_when_others_must_leave(life):
    started(life, 3)
    life.ended("W-1", DIED, now=0.0)
    assert life.ended("W-1", DIED, now=0.0) == [WakeAt(0.5)]

    assert life.want(1, 0.1) == [StopWorker("W-3")]
    assert life.vacant() == ()


def test_nothing_wanted_means_nothing_started(life):
    started(life, 1)
    assert life.want(0, 1.0) == [StopWorker("W-1")]

    assert life.ended("W-1", DIED, now=2.0) == []
    assert life.vacant() == ()
    assert life.tick(100.0) == []


@pytest.mark.parametrize("state", State)
def test_a_worker_goes_only_where_the_table_lets_it(state):
    life = Lifecycle(lambda: "W-1")
    life.want(1, 0.0)
    if state is State.READY:
        life.loaded("W-1", 0.0)
    if state is State.STOPPING:
        life.want(0, 0.0)

    if State.READY in LEGAL[state]:
        life.loaded("W-1", 0.0)
    else:
        with pytest.raises(IllegalTransition, match="worker W-1 cannot go from"):
            life.loaded("W-1", 0.0)


def test_a_stranger_can_go_nowhere(life):
    with pytest.raises(IllegalTransition, match="worker W-9 cannot go from None"):
        life.loaded("W-9", 0.0)


def test_what_is_handed_out_is_a_copy(life):
    started(life, 1)

    life.states().clear()

    assert list(life.states()) == ["W-1"]


# --- any sequence of events -----------------------------------------------------------------------


class Drill:
    """Drives a Lifecycle as a pool does, with made-up processes, and checks every step."""

    def __init__(self):
        numbers = count(1)
        self.life = Lifecycle(lambda: f"W-{next(numbers)}")
        self.now = 0.0
        self.alive = {}
        self.wake = None

    def follow(self, instructions):
        spawned = [i.worker for i in instructions if isinstance(i, SpawnWorker)]
        assert len(set(spawned)) == len(spawned)
        for instruction in instructions:
            match instruction:
                case SpawnWorker(worker):
                    assert worker not in self.alive
                    self.alive[worker] = State.STARTING
                case StopWorker(worker):
                    assert self.alive[worker] is not State.STOPPING
                    self.alive[worker] = State.STOPPING
                case WakeAt(when):
                    assert when > self.now
                    self.wake = when
        self.life.check()
        assert self.life.states() == self.alive
        assert not set(self.life.vacant()) & set(self.alive)
        working = sum(s is not State.STOPPING for s in self.alive.values())
        assert working + len(self.life.vacant()) <= self.life.wanted
        is_backing_off = self.wake is not None and self.wake > self.now
        is_trying = State.STARTING in self.alive.values()
        assert working == self.life.wanted or is_backing_off or is_trying

    def pick(self, choice, *states):
        names = [name for name, state in self.alive.items() if state in states]
        return names[choice % len(names)] if names else None

    def step(self, what, choice):
        match what:
            case "want":
                self.follow(self.life.want(choice % 5, self.now))
            case "loaded":
                if worker := self.pick(choice, State.STARTING):
                    self.alive[worker] = State.READY
                    self.follow(self.life.loaded(worker, self.now))
            case "died":
                if worker := self.pick(choice, State.STARTING, State.READY):
                    del self.alive[worker]
                    self.follow(self.life.ended(worker, DIED, now=self.now))
            case "stopped":
                if worker := self.pick(choice, State.STOPPING):
                    del self.alive[worker]
                    self.follow(
                        self.life.ended(worker, STOPPED if choice % 4 else DIED, now=self.now)
                    )
            case "answered":
                if worker := self.pick(choice, State.READY):
                    self.follow(self.life.proved_healthy(worker, self.now))
            case "time":
                self.now += choice / 10
                self.follow(self.life.tick(self.now))

    def settle(self):
        """Every process does as it is told from now on, and time passes."""
        for _ in range(100):
            if worker := self.pick(0, State.STOPPING):
                del self.alive[worker]
                self.follow(self.life.ended(worker, STOPPED, now=self.now))
            elif worker := self.pick(0, State.STARTING):
                self.alive[worker] = State.READY
                self.follow(self.life.loaded(worker, self.now))
            elif len(self.alive) < self.life.wanted:
                assert self.wake is not None
                self.now = max(self.now, self.wake)
                self.follow(self.life.tick(self.now))
            else:
                return
        raise AssertionError("it never settled")


events = st.tuples(
    st.sampled_from(["want", "loaded", "died", "stopped", "answered", "time"]),
    st.integers(0, 100),
)


@given(st.lists(events, max_size=60))
def test_any_sequence_of_events_ends_with_the_wanted_workers_ready(sequence):
    drill = Drill()
    for what, choice in sequence:
        drill.step(what, choice)

    drill.settle()

    assert drill.life.states() == dict.fromkeys(drill.alive, State.READY)
    assert len(drill.alive) == drill.life.wanted
    assert drill.life.vacant() == ()
    assert drill.life.tick(drill.now + 1000.0) == []


def test_the_check_notices_more_workers_than_wanted():
    life = Lifecycle(iter(("W-1", "W-2")).__next__)
    life.want(2, 0.0)
    life._wanted = 1  # no public call can do this, which is the point

    with pytest.raises(
        AssertionError, match="2 workers run and 0 wait for a next life, 1 are wanted"
    ):
        life.check()
