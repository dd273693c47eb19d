"""Waiting pays where a batch has a fixed cost and clients come back together; nowhere else."""

import heapq
import random
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.batching.reunion import Reunion
from marserve.batching.window import Limits, Window

LONGEST_S = 0.064


def observed(reunion, rounds, period_s=0.020, sizes=(2, 6), fixed_s=0.008, each_s=0.00025, back=4):
    """`rounds` answers, `period_s` apart, each followed after 0.5 ms by `back` arrivals."""
    now = 100.0
    for number in range(rounds):
        size = sizes[number % len(sizes)]
        reunion.answered(size, fixed_s + each_s * size, now)
        for _ in range(back):
            reunion.arrived(now + 0.0005)
        now += period_s
    reunion.answered(sizes[0], fixed_s + each_s * sizes[0], now)
    return now


def test_the_fixed_cost_is_learned_from_batches_of_different_sizes():
    reunion = Reunion(32, 0.1)
    observed(reunion, 20)

    assert reunion.fixed_cost_s() == pytest.approx(0.008)


@pytest.mark.parametrize(
    ("rounds", "sizes", "fixed_s", "each_s"),
    [
        pytest.param(3, (2, 6), 0.008, 0.00025, id="too few batches"),
        pytest.param(50, (4,), 0.008, 0.00025, id="all batches alike"),
        pytest.param(50, (2, 6), 0.0, 0.005, id="no fixed cost"),
        pytest.param(50, (2, 6), -0.002, 0.005, id="the line crosses zero"),
    ],
)
def test_without_a_fixed_cost_nobody_waits(rounds, sizes, fixed_s, each_s):
    reunion = Reunion(32, 0.1)
    now = observed(reunion, rounds, sizes=sizes, fixed_s=fixed_s, each_s=each_s)

    assert reunion.fixed_cost_s() == pytest.approx(0.0, abs=1e-12)
    for waiting in (1, 4, 31):
        assert reunion.hold_until(waiting, now) == now


def test_a_cost_that_falls_with_size_counts_as_all_fixed():
    reunion = Reunion(32, 0.1)
    observed(reunion, 50, fixed_s=0.010, each_s=-0.001)

    assert 0.004 < reunion.fixed_cost_s() < 0.010


@pytest.mark.parametrize("waiting", [1, 4, 16])
def test_those_that_wait_wait_until_the_others_are_back(waiting):
    reunion = Reunion(32, 0.1)
    now = observed(reunion, 40)

    assert reunion.hold_until(waiting, now) == pytest.approx(now + 0.001)


@pytest.mark.parametrize(
    ("waiting", "later_s", "why"),
    [
        (8, 0.0, "nobody can join a full batch"),
        (4, 0.002, "those who come back are back"),
        (4, 0.070, "the answer was too long ago"),
    ],
)
def test_where_nobody_would_join_nobody_waits(waiting, later_s, why):
    reunion = Reunion(8, 0.1)
    now = observed(reunion, 40, period_s=0.1) + later_s

    assert reunion.hold_until(waiting, now) == now, why


def test_a_wait_that_costs_the_waiting_more_than_it_saves_is_not_taken():
    reunion = Reunion(32, 0.1)
    # one client, back 12 ms after its answer; another batch would cost 8 ms
    now = 0.0
    for number in range(40):
        size = 1 + number % 2
        reunion.answered(size, 0.008 + 0.00025 * size, now)
        reunion.arrived(now + 0.012)
        now += 0.030
    reunion.answered(1, 0.00825, now)

    assert reunion.hold_until(8, now) == now


def test_a_lone_client_never_waits():
    reunion, now = Reunion(32, 0.1), 0.0
    for _ in range(100):
        reunion.answered(1, 0.008, now)
        now += 0.0005
        reunion.arrived(now)
        assert reunion.hold_until(1, now) == now
        now += 0.008


def test_nothing_is_known_before_the_first_answer():
    reunion = Reunion(32, 0.1)
    reunion.arrived(1.0)

    assert reunion.hold_until(1, 1.0) == 1.0
    assert reunion.fixed_cost_s() == 0.0


@pytest.mark.parametrize(("delay_s", "held_s"), [(0.0, 0.0), (0.0009, 0.0), (0.001, 0.001)])
def test_the_wait_stays_within_the_batch_delay(delay_s, held_s):
    reunion = Reunion(32, delay_s)
    now = observed(reunion, 40)

    assert reunion.hold_until(4, now) == pytest.approx(now + held_s)


happenings = st.one_of(
    st.tuples(st.just("arrived"), st.just(1), st.just(0.0)),
    st.tuples(st.just("answered"), st.integers(1, 64), st.floats(0.0, 130.0)),
    st.tuples(st.just("time"), st.just(0), st.floats(0.0, 0.1)),
)


@given(
    st.integers(1, 64), st.floats(0.0, 1.0), st.floats(0.0, 1e6), st.lists(happenings, max_size=80)
)
def test_whatever_was_learned_the_wait_is_short(size, delay_s, now, learned):
    reunion = Reunion(size, delay_s)
    for what, amount, seconds in learned:
        if what == "arrived":
            reunion.arrived(now)
        elif what == "answered":
            reunion.answered(amount, seconds, now)
        else:
            now += seconds
        for waiting in (1, max(1, size - 1), size):
            until = reunion.hold_until(waiting, now)
            assert now <= until <= now + LONGEST_S + 1e-9
            if reunion.fixed_cost_s() == 0.0 or delay_s == 0.0:
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
