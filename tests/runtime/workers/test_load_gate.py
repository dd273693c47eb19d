"""Who may load when: a bounded number, versions in turn, nobody blocked by one that hangs (F42)."""

import asyncio
from types import SimpleNamespace

import pytest
from tests.harness.jumping_loop import jumping_loop

from marserve.refs import ModelRef
from marserve.workers import load_gate
from marserve.workers.load_gate import LoadGate

A, B = ModelRef("a", "1"), ModelRef("b", "1")


@pytest.fixture
def run(monkeypatch):
    loop = jumping_loop(monkeypatch, SimpleNamespace(time=None))
    yield lambda scenario: loop.run_until_complete(scenario())
    loop.close()


def granted(*turns):
    return [turn.granted.done() and not turn.granted.cancelled() for turn in turns]


def test_so_many_load_at_a_time_and_versions_take_turns(run):
    async def scenario():
        gate = LoadGate(2)
        a = [gate.ask(A) for _ in range(4)]
        b = [gate.ask(B) for _ in range(2)]
        assert granted(*a, *b) == [True, True, False, False, False, False]

        gate.leave(a[0])
        assert granted(*a, *b) == [True, True, True, False, False, False]
        gate.leave(a[1])
        assert granted(*a, *b) == [True, True, True, False, True, False]
        gate.leave(a[1])  # twice is once
        assert granted(*a, *b) == [True, True, True, False, True, False]
        for turn in (*a, *b):
            gate.leave(turn)

    run(scenario)


def test_who_does_not_want_its_turn_any_more_takes_nobody_s(run):
    async def scenario():
        gate = LoadGate(1)
        first, second, third = gate.ask(A), gate.ask(A), gate.ask(B)
        gate.leave(second)
        gate.leave(first)

        assert granted(third) == [True]
        assert second.granted.cancelled()
        gate.leave(third)

    run(scenario)


def test_a_load_that_takes_for_ever_holds_up_the_others_for_a_while_only(run):
    async def scenario():
        gate = LoadGate(1)
        hangs, next_one = gate.ask(A), gate.ask(B)
        await asyncio.sleep(load_gate._LONGEST_TURN_S + 0.1)

        assert granted(hangs, next_one) == [True, True]
        gate.leave(hangs)
        assert granted(gate.ask(A)) == [False]
        gate.leave(next_one)

    run(scenario)
