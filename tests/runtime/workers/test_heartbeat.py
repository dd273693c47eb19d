"""I5: workers without work are asked, and one that does not answer is known within a second."""

import asyncio

import pytest
from jumping_loop import jumping_loop

from marserve.workers import heartbeat as module
from marserve.workers.heartbeat import PERIOD_S, WITH_WORK_S, Heartbeat


class Worker:
    def __init__(self, *, answers=True, in_flight=0):
        self.answers = answers
        self.in_flight = in_flight
        self.silent_since = None
        self.is_asked = False
        self.asked = 0
        self.ended_at = None

    @property
    def may_be_asked(self):
        return self.in_flight == 0

    def ask(self):
        self.asked += 1
        self.is_asked = not self.answers

    def fell_silent(self, limit_s):
        if self.ended_at is None:
            self.ended_at = asyncio.get_running_loop().time(), limit_s


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(module, "time", None, raising=False)  # the loop's clock is all it reads
    loop = jumping_loop(monkeypatch, module)
    yield lambda scenario: loop.run_until_complete(scenario())
    loop.close()


@pytest.mark.parametrize(("in_flight", "asked"), [(0, 25), (1, 0)])
def test_who_has_nothing_to_do_is_asked_a_few_times_a_second(run, in_flight, asked):
    async def scenario():
        worker = Worker(in_flight=in_flight)
        heartbeat = Heartbeat(lambda: [worker], 120.0, lambda _: pytest.fail("it answers"))
        heartbeat.start()
        heartbeat.start()  # once is enough
        await asyncio.sleep(25.5 * PERIOD_S)
        heartbeat.stop()
        await asyncio.sleep(10.0)
        assert worker.asked == asked
        assert worker.ended_at is None

    run(scenario)


@pytest.mark.parametrize(("gets_work", "limit_s"), [(False, 60.0), (True, WITH_WORK_S)])
def test_who_does_not_answer_is_silent_within_a_second_and_ended_later(run, gets_work, limit_s):
    async def scenario():
        loop = asyncio.get_running_loop()
        worker = Worker(answers=False)
        silent = []
        heartbeat = Heartbeat(lambda: [worker], 60.0, lambda _: silent.append(loop.time()))
        began = loop.time()
        heartbeat.start()
        await asyncio.sleep(PERIOD_S * 1.5)
        worker.in_flight = int(gets_work)  # before anybody knew
        await asyncio.sleep(70.0)
        heartbeat.stop()
        assert len(silent) == 1
        assert silent[0] - began <= 1.0
        ended_at, limit = worker.ended_at
        assert limit == limit_s
        assert limit_s < ended_at - silent[0] <= limit_s + 2 * PERIOD_S

    run(scenario)


def test_who_answers_late_is_asked_again_and_not_ended(run):
    async def scenario():
        worker = Worker(answers=False)
        heartbeat = Heartbeat(lambda: [worker], 60.0, lambda _: None)
        heartbeat.start()
        await asyncio.sleep(5.0)
        assert worker.silent_since is not None
        worker.answers, worker.is_asked, worker.silent_since = True, False, None
        await asyncio.sleep(100.0)
        heartbeat.stop()
        assert worker.asked > 100
        assert worker.ended_at is None

    run(scenario)
