"""Sequences on an event loop: which worker gets what, and what happens to those whose worker ends.

The clock jumps to the next timer when nothing else is left to do.
"""

import asyncio
import contextlib
import random

import pytest
from tests.harness.jumping_loop import jumping_loop

from marserve.batching import sequence_batcher as module
from marserve.batching.retry import Loss
from marserve.batching.sequence_batcher import SequenceBatcher
from marserve.batching.sequences import SequenceLimits
from marserve.errors import DeadlineExceeded, SequenceRefused, ShuttingDown, WorkerDied
from marserve.model_version import SequenceHeaders
from marserve.request import Answer, Job, Request


@pytest.fixture
def run(monkeypatch):
    loop = jumping_loop(monkeypatch, module)
    yield lambda scenario: loop.run_until_complete(scenario())
    loop.close()


class Shop:
    """A batcher, workers that keep what they are given, and who got what."""

    def __init__(self, workers="w", size=4, timeout_s=10.0, **limits):
        self.loop = asyncio.get_running_loop()
        self.idle = list(workers)
        self.sent = []
        self.depths = []
        self.replies = {}
        values = {
            "sequences": 8,
            "per_worker": 4,
            "waiting": 3,
            "idle_s": 60.0,
            "total_s": 0.0,
        } | limits
        self.batcher = SequenceBatcher(
            SequenceLimits(**values),
            SequenceHeaders("seq", "start", "end"),
            size,
            timeout_s,
            lambda: list(self.idle),
            self.send,
            self.depths.append,
        )

    def send(self, worker, jobs):
        self.idle.remove(worker)
        assert all(job.is_open for job in jobs)
        self.sent.append((worker, jobs))

    def job(self, name, sequence=None, body=b"12345"):
        headers = [("seq", sequence)] if sequence else []
        return Job(Request(name, headers, [("body", "", body)]), self.loop.time(), self.reply)

    def submit(self, *names):
        """The first letter of a name is its sequence."""
        jobs = [self.job(name, name[0]) for name in names]
        for job in jobs:
            self.batcher.submit(job)
        return jobs

    def reply(self, job, reply):
        assert job.request.id not in self.replies
        self.replies[job.request.id] = reply

    def answer(self, worker, jobs):
        self.idle.append(worker)
        self.batcher.answered(jobs, 0.01)
        for job in jobs:
            job.resolve(Answer(b"ok"))

    def kill(self, worker, jobs=()):
        """As a pool buries a worker."""
        self.batcher.worker_gone(worker)
        self.batcher.lost(list(jobs), Loss("it was killed"))

    @property
    def names_sent(self):
        return [(worker, [job.request.id for job in jobs]) for worker, jobs in self.sent]

    def errors(self):
        return {name: type(reply) for name, reply in self.replies.items()}


async def turn():
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_a_sequence_runs_in_order_on_one_worker(run):
    async def scenario():
        shop = Shop("wx")
        shop.submit("a1", "a2", "b1")
        await turn()
        assert shop.names_sent == [("w", ["a1", "b1"])]
        shop.answer(*shop.sent[0])
        await turn()

        assert shop.names_sent[1:] == [("w", ["a2"])]
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (0, 0)
        shop.batcher.close()

    run(scenario)


def test_a_request_without_a_sequence_opens_one_and_the_handler_is_told(run):
    async def scenario():
        shop = Shop()
        job = shop.job("new")
        shop.batcher.submit(job)

        told = dict(job.request.headers)
        assert told["seq"].startswith("ts-seq-")
        assert told["start"] == "true"
        shop.batcher.close()

    run(scenario)


def test_one_request_too_many_is_refused_and_costs_nothing(run):
    async def scenario():
        shop = Shop("", waiting=1)
        shop.submit("a1")
        with pytest.raises(SequenceRefused):
            shop.submit("a2")

        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (1, 5)
        shop.batcher.close()

    run(scenario)


def test_the_death_of_a_worker_ends_its_sequences_and_no_others(run):
    async def scenario():
        shop = Shop("w", per_worker=1)
        shop.submit("a1", "a2", "b1")
        await turn()
        [(_, running)] = shop.sent

        shop.kill("w", running)
        assert shop.errors() == {"a1": WorkerDied, "a2": WorkerDied}
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (1, 5)

        shop.idle = ["x"]
        shop.submit("a3")  # begins anew
        await turn()
        assert shop.names_sent[1:] == [("x", ["b1"])]
        shop.batcher.share(2)
        shop.answer(*shop.sent[1])
        await turn()
        assert shop.names_sent[2:] == [("x", ["a3"])]
        shop.batcher.close()

    run(scenario)


@pytest.mark.parametrize("leave", [Job.abandon, lambda job: job.resolve(Answer(b""))])
@pytest.mark.parametrize("is_alone", [True, False])
def test_whoever_no_longer_waits_has_no_place(run, leave, is_alone):
    async def scenario():
        shop = Shop("")
        job = shop.job("a1", "a")
        (shop.batcher.submit_alone if is_alone else shop.batcher.submit)(job)
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (1, 5)
        leave(job)
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (0, 0)

        shop.idle = ["w"]
        shop.batcher.wake()
        await turn()
        assert shop.sent == []
        shop.batcher.close()

    run(scenario)


@pytest.mark.parametrize("is_alone", [True, False])
def test_nobody_waits_for_longer_than_the_limit(run, is_alone):
    async def scenario():
        shop = Shop("", timeout_s=3.0)
        job = shop.job("a1", "a")
        (shop.batcher.submit_alone if is_alone else shop.batcher.submit)(job)
        await asyncio.sleep(2.9)
        assert shop.replies == {}
        await asyncio.sleep(0.2)

        assert shop.errors() == {"a1": DeadlineExceeded}
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (0, 0)
        shop.batcher.close()

    run(scenario)


def test_nobody_joins_a_round_while_one_waits_that_must_be_alone(run):
    async def scenario():
        shop = Shop("")
        shop.submit("a1")
        shop.batcher.submit_alone(shop.job("describe"))
        assert shop.batcher.take("w", 4) == []

        shop.idle = ["w"]
        shop.batcher.wake()
        await turn()
        assert shop.names_sent == [("w", ["describe"])]
        assert [job.request.id for job in shop.batcher.take("w", 4)] == ["a1"]
        shop.batcher.close()

    run(scenario)


def test_only_what_any_worker_could_run_asks_for_one_more(run):
    async def scenario():
        shop = Shop("w")
        shop.submit("a1", "a2")
        await turn()
        assert shop.batcher.depth == 1
        assert shop.batcher.oldest_since is None
        assert shop.batcher.workers_in_use == {"w"}
        shop.submit("b1")

        assert shop.batcher.oldest_since == shop.loop.time()
        shop.batcher.close()

    run(scenario)


def test_everything_that_waits_can_be_answered_with_an_error(run):
    async def scenario():
        shop = Shop("w")
        shop.submit("a1", "a2")
        await turn()
        shop.submit("b1")
        shop.batcher.submit_alone(shop.job("describe"))
        shop.batcher.fail_all(ShuttingDown("The model was unloaded."))

        assert shop.errors() == dict.fromkeys(("a2", "b1", "describe"), ShuttingDown)
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (0, 0)
        assert shop.depths[-1] == 0
        shop.answer(*shop.sent[0])
        shop.batcher.close()

    run(scenario)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_every_request_has_one_answer_and_nothing_is_left(run, seed):
    async def scenario():
        dice = random.Random(seed)
        shop, jobs, running, born = Shop("wx", timeout_s=2.0, idle_s=1.0), [], [], 0
        for number in range(300):
            with contextlib.suppress(SequenceRefused):
                jobs += shop.submit(f"{dice.choice('abcdefghij')}{number}")
            running += shop.sent
            shop.sent.clear()
            if running and dice.random() < 0.6:
                worker, batch = running.pop(dice.randrange(len(running)))
                if dice.random() < 0.2:
                    born += 1
                    shop.kill(worker, batch)
                    shop.idle.append(f"w{born}")
                    shop.batcher.wake()
                else:
                    shop.answer(worker, batch)
            if jobs and dice.random() < 0.1:
                dice.choice(jobs).abandon()
            if dice.random() < 0.5:
                await asyncio.sleep(dice.random() * 0.2)
        for _ in range(500):
            running += shop.sent
            shop.sent.clear()
            if running:
                shop.answer(*running.pop())
            await asyncio.sleep(0.01)

        assert not any(job.is_open for job in jobs)
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (0, 0)
        shop.batcher.close()

    run(scenario)
