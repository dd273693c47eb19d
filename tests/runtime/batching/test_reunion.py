"""Waiting pays where a batch has a fixed cost and clients come back together; nowhere else."""

import heapq
import random
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.batching.reunion import Reunion
from marserve.batching.service_time import ServiceTime
from marserve.batching.window import Limits, Window

LONGEST_S = 0.064


class Taught:
    """`rounds` answers of `size`, `period_s` apart, each followed after 0.5 ms by `back` arrivals.

    A batch of n takes `fixed_s + each_s · n`.
    """

    def __init__(
        self,
        delay_s=0.1,
        rounds=40,
        size=4,
        back=4,
        back_s=0.0005,
        period_s=0.020,
        fixed_s=0.008,
        each_s=0.00025,
        limit=32,
    ):
        service = ServiceTime()
        for n in (1, 2, 4, 8, 16) * 8:
            service.observe(n, fixed_s + each_s * n)
        self.reunion = Reunion(limit, delay_s, service)
        self.now = 100.0
        for _ in range(rounds):
            self.reunion.answered(size, self.now)
            for _ in range(back):
                self.reunion.arrived(self.now + back_s)
            self.now += period_s
        self.reunion.answered(size, self.now)

    def held_s(self, waiting, arrived=0, after_s=0.0):
        """How long they wait `after_s` seconds after the last answer, `arrived` being back."""
        now = self.now + after_s
        for _ in range(arrived):
            self.reunion.arrived(now)
        return self.reunion.hold_until(waiting, now) - now


@pytest.mark.parametrize("waiting", [1, 4, 16])
def test_those_that_wait_wait_until_the_others_are_back(waiting):
    assert 0.0004 <= Taught().held_s(waiting) <= 0.0007


def test_when_all_are_back_nobody_is_waited_for():
    taught = Taught(size=4)

    assert taught.held_s(3, arrived=3, after_s=0.0003) > 0.0
    assert taught.held_s(4, arrived=1, after_s=0.0003) == 0.0


@pytest.mark.parametrize(
    ("settings", "waiting", "after_s"),
    [
        pytest.param({"rounds": 2}, 4, 0.0, id="too little is known"),
        pytest.param({"fixed_s": 0.0, "each_s": 0.005}, 4, 0.0, id="no fixed cost"),
        pytest.param({"fixed_s": -0.002, "each_s": 0.005}, 4, 0.0, id="the line crosses zero"),
        pytest.param({"delay_s": 0.0}, 4, 0.0, id="no delay is allowed"),
        pytest.param({"delay_s": 0.0003}, 4, 0.0, id="nobody is back within the delay"),
        pytest.param({}, 4, 0.002, id="those who come back are back"),
        pytest.param({}, 4, 0.070, id="the answer was too long ago"),
        pytest.param({"limit": 8}, 8, 0.0, id="nobody can join a full batch"),
        pytest.param({"back": 0}, 4, 0.0, id="nobody comes back"),
        pytest.param({"back": 1, "back_s": 0.012}, 8, 0.0, id="longer than a batch costs"),
    ],
)
def test_where_a_wait_does_not_pay_nobody_waits(settings, waiting, after_s):
    assert Taught(**settings).held_s(waiting, after_s=after_s) == 0.0


def test_a_wait_is_not_taken_where_the_next_batch_fills_up_meanwhile():
    # of 64 clients half wait while the other half is served: every batch is full anyway
    taught = Taught(size=32, back=32, back_s=0.006, fixed_s=0.008)

    assert taught.held_s(32) == 0.0
    assert taught.held_s(30) == 0.0


@pytest.mark.parametrize("per_s", [100.0, 600.0, 1200.0, 1800.0])
def test_requests_that_come_at_random_make_nobody_wait(per_s):
    service = ServiceTime()
    for n in (1, 2, 4, 8, 16) * 8:
        service.observe(n, 0.008 + 0.00025 * n)
    reunion, rng, now, waiting = Reunion(32, 0.1, service), random.Random(7), 0.0, 0
    next_arrival, holds = rng.expovariate(per_s), 0
    for _ in range(600):
        size = max(1, min(32, waiting))
        ends = now + 0.008 + 0.00025 * size
        waiting -= min(waiting, size)
        while next_arrival <= ends or not waiting:
            now = max(now, next_arrival)
            reunion.arrived(next_arrival)
            waiting += 1
            next_arrival += rng.expovariate(per_s)
        now = max(now, ends)
        reunion.answered(size, now)
        holds += reunion.hold_until(waiting, now) > now

    assert holds <= 12


def test_a_crowd_that_has_left_is_soon_forgotten():
    taught = Taught(size=32, back=32)
    assert taught.held_s(4) > 0.0

    for _ in range(40):
        taught.now += 0.020
        taught.reunion.answered(2, taught.now)

    assert taught.held_s(1) == 0.0


def test_a_lone_client_never_waits():
    taught = Taught(size=1, back=1)
    now = taught.now
    for _ in range(100):
        taught.reunion.answered(1, now)
        now += 0.0005
        taught.reunion.arrived(now)
        assert taught.reunion.hold_until(1, now) == now
        now += 0.008


def test_nothing_is_known_before_the_first_answer():
    reunion = Reunion(32, 0.1, ServiceTime())
    reunion.arrived(1.0)

    assert reunion.hold_until(1, 1.0) == 1.0


happenings = st.one_of(
    st.tuples(st.just("arrived"), st.just(1), st.just(0.0)),
    st.tuples(st.just("answered"), st.integers(1, 64), st.floats(0.0, 130.0)),
    st.tuples(st.just("time"), st.just(0), st.floats(0.0, 0.1)),
)


@given(
    st.integers(1, 64), st.floats(0.0, 1.0), st.floats(0.0, 1e6), st.lists(happenings, max_size=80)
)
def test_whatever_was_learned_the_wait_is_short(size, delay_s, now, learned):
    service = ServiceTime()
    reunion = Reunion(size, delay_s, service)
    for what, amount, seconds in learned:
        if what == "arrived":
            reunion.arrived(now)
        elif what == "answered":
            service.observe(amount, seconds)
            reunion.answered(amount, now)
        else:
            now += seconds
        for waiting in (1, max(1, size - 1), size):
            until = reunion.hold_until(waiting, now)
            assert now <= until <= now + min(LONGEST_S, delay_s) + 1e-9
            if service.fixed_s == 0.0 or delay_s == 0.0:
                assert until == now


# --- clients that answer an answer with a request -------------------------------------------------


class ClosedLoop:
    """One worker, `clients` that send again about 0.4 ms after each answer; time is simulated.

    A batch of n takes `fixed_s + each_s · n`, give or take 3 %.
    """

    def __init__(self, starts, limits, fixed_s, each_s, seed=1):
        self.window = Window(limits)
        self.fixed_s, self.each_s = fixed_s, each_s
        self.random = random.Random(seed)
        self.numbers = count()
        self.agenda = []
        self.is_busy = False
        self.answers = []
        for client, start in enumerate(starts):
            self.at(start, "arrival", client)

    def at(self, when, what, about):
        heapq.heappush(self.agenda, (when, next(self.numbers), what, about))

    def run(self, until_s):
        while self.agenda[0][0] <= until_s:
            now, _, what, about = heapq.heappop(self.agenda)
            if what == "arrival":
                self.window.add(about, now)
            elif what == "answer":
                self.answer(now, *about)
            self.pump(now)

    def pump(self, now):
        due = None if self.is_busy else self.window.due_at(now)
        if due is None:
            return
        if due > now:
            self.at(due, "look again", None)
            return
        batch = self.window.take()
        took_s = (self.fixed_s + self.each_s * len(batch)) * self.random.uniform(0.97, 1.03)
        self.is_busy = True
        self.at(now + took_s, "answer", (batch, took_s))

    def answer(self, now, batch, took_s):
        self.is_busy = False
        self.window.answered(len(batch), took_s, now)
        for client in batch:
            self.answers.append(now)
            self.at(now + self.random.uniform(0.0003, 0.0005), "arrival", client)


def answers_per_s(starts, delay_s, fixed_s, each_s):
    """After two seconds of warm-up, over three seconds."""
    loop = ClosedLoop(starts, Limits(32, delay_s), fixed_s, each_s)
    loop.run(5.0)
    return sum(when >= 2.0 for when in loop.answers) / 3.0


GPU_LIKE = {"fixed_s": 0.008, "each_s": 0.00025}
CPU_LIKE = {"fixed_s": 0.0005, "each_s": 0.005}


@pytest.mark.parametrize(
    "starts",
    [
        pytest.param([0.0] * 8, id="all at once"),
        pytest.param([0.0] * 4 + [0.001] * 4, id="two equal halves"),
        pytest.param([number * 0.003 for number in range(8)], id="one by one"),
        pytest.param([0.0] * 12 + [0.001] * 12, id="24 clients in halves"),
    ],
)
def test_clients_that_split_into_phases_are_reunited(starts):
    greedy = answers_per_s(starts, 0.0, **GPU_LIKE)
    reunited = answers_per_s(starts, 0.1, **GPU_LIKE)

    assert reunited > 1.4 * greedy


@pytest.mark.parametrize(
    ("starts", "curve"),
    [
        pytest.param([0.0], GPU_LIKE, id="a lone client"),
        pytest.param([0.0] * 8, CPU_LIKE, id="work that does not batch"),
        pytest.param([number * 0.002 for number in range(64)], GPU_LIKE, id="full batches"),
    ],
)
def test_where_waiting_cannot_pay_it_costs_nothing(starts, curve):
    greedy = answers_per_s(starts, 0.0, **curve)

    assert answers_per_s(starts, 0.1, **curve) > 0.98 * greedy
