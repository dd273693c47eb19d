"""The queue of a version on an event loop: what reaches a worker, when, and what never does.

The loop is a real one, but for its clock, which jumps to the next timer when nothing else is left
to do: an hour passes in no time, and a test that waits for what will never happen fails at once.
"""

import asyncio
import random

import pytest
from tests.harness.jumping_loop import jumping_loop

from marserve.batching import batcher as batcher_module
from marserve.batching import suspects as suspects_module
from marserve.batching.batcher import Batcher
from marserve.batching.poison_memory import PoisonMemory
from marserve.batching.retry import Loss
from marserve.batching.suspects import Court, Lane
from marserve.batching.window import Limits
from marserve.errors import (
    DeadlineExceeded,
    NoWorkers,
    PoisonRequest,
    PoisonRequestRefused,
    ShuttingDown,
    WorkerDied,
)
from marserve.request import Answer, Job, Request


@pytest.fixture
def loop(monkeypatch):
    made = jumping_loop(monkeypatch, batcher_module)
    monkeypatch.setattr(suspects_module, "time", batcher_module.time)
    yield made
    made.close()


@pytest.fixture
def run(loop):
    return lambda scenario: loop.run_until_complete(scenario())


class Shop:
    """A batcher, workers that take batches and do nothing by themselves, and who got what."""

    def __init__(
        self, workers=1, size=4, delay_s=0.1, timeout_s=10.0, is_idempotent=True, has_crowds=False
    ):
        self.retried = []
        self.verdicts = []
        self.loop = asyncio.get_running_loop()
        self.idle = workers
        self.sent = []
        self._taken = []
        self.depths = []
        self.replies = {}
        self.late = []
        self.batcher = Batcher(
            Limits(size, delay_s),
            timeout_s,
            lambda: self.idle > 0,
            self.send,
            self.depths.append,
            idle=lambda: self.idle,
            on_late=self.late.append,
            lane=Lane(
                lambda: "w" if self.idle else None,
                lambda: workers == 1,
                lambda _, jobs: self.send(jobs),
                has_crowds=has_crowds,
            ),
            court=Court(
                "m/1.0", is_idempotent, lambda *counts: self.retried.append(counts), self.convicted
            ),
        )

    def send(self, jobs):
        assert self.idle > 0
        assert jobs
        self.idle -= 1
        for job in jobs:
            assert job.is_open
            job.attempts += 1
        self.sent.append(jobs)
        self._taken.append(jobs)

    def convicted(self, verdict):
        self.verdicts.append(verdict)

    def jobs(self, *names, body=b"12345", headers=()):
        return [
            Job(Request(name, list(headers), [("body", "", body)]), self.loop.time(), self.reply)
            for name in names
        ]

    def submit(self, *names, **how):
        jobs = self.jobs(*names, **how)
        for job in jobs:
            self.batcher.submit(job)
        return jobs

    def reply(self, job, reply):
        assert job.request.id not in self.replies
        self.replies[job.request.id] = (self.loop.time(), reply)

    @property
    def running(self):
        """The batches that workers have."""
        return list(self._taken)

    def lose(self, batch, loss):
        """The worker that has this batch dies, and another is there at once."""
        self._ended(batch)
        self.idle += 1
        self.batcher.lost(batch, loss)

    def _ended(self, batch):
        self._taken = [one for one in self._taken if one != batch]

    def answer(self, batch, took_s=0.01):
        """The worker that has this batch answers it, as a pool does."""
        self._ended(batch)
        self.idle += 1
        self.batcher.answered(batch, took_s)
        self.batcher.pump()
        for job in batch:
            job.resolve(Answer(b"ok"))

    @property
    def names_sent(self):
        return [[job.request.id for job in batch] for batch in self.sent]

    def errors(self):
        return {name: type(reply) for name, (_, reply) in self.replies.items()}


async def turn():
    """Until everything that is due now has run."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


# --- who leaves with whom -------------------------------------------------------------------------


def test_requests_of_one_turn_of_the_loop_leave_together(run):
    async def scenario():
        shop = Shop(size=4)
        shop.submit("a", "b")
        shop.submit("c")
        assert shop.sent == []

        await turn()

        assert shop.names_sent == [["a", "b", "c"]]
        assert shop.batcher.depth == 0
        assert shop.depths == [0]
        shop.batcher.close()

    run(scenario)


def test_a_request_that_finds_an_idle_worker_waits_for_nothing(run):
    async def scenario():
        shop = Shop(delay_s=5.0)
        before = shop.loop.time()
        shop.submit("a")

        await turn()

        assert shop.names_sent == [["a"]]
        assert shop.loop.time() == before
        shop.batcher.close()

    run(scenario)


def test_requests_wait_while_no_worker_is_free_and_leave_when_one_is(run):
    async def scenario():
        shop = Shop(workers=0, size=2)
        shop.submit("a", "b", "c")
        await turn()
        assert shop.sent == []
        assert shop.batcher.depth == 3

        shop.idle = 1
        shop.batcher.wake()
        await turn()

        assert shop.names_sent == [["a", "b"]]
        shop.answer(shop.sent[0])
        assert shop.names_sent == [["a", "b"], ["c"]]
        assert shop.depths == [1, 2, 3, 1, 0]
        shop.batcher.close()

    run(scenario)


def test_every_free_worker_gets_a_batch(run):
    async def scenario():
        shop = Shop(workers=3, size=2)
        shop.submit("a", "b", "c", "d", "e", "f", "g")
        await turn()

        assert shop.names_sent == [["a", "b"], ["c", "d"], ["e", "f"]]
        assert shop.batcher.depth == 1
        shop.batcher.close()

    run(scenario)


def test_an_abandoned_request_never_reaches_a_worker(run):
    async def scenario():
        shop = Shop(workers=0, size=2)
        jobs = shop.submit("a", "b", "c", "d", "e")
        for job in jobs[:3]:
            job.abandon()

        # its place in the queue is free at once
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (2, 10)
        shop.idle = 1
        shop.batcher.wake()
        await turn()

        assert shop.names_sent == [["d", "e"]]
        assert shop.batcher.waiting_bytes == 0
        shop.batcher.close()

    run(scenario)


def test_the_bytes_that_wait_are_counted_from_coming_to_leaving(run):
    async def scenario():
        shop = Shop(workers=0, size=2)
        shop.submit("a", body=b"x" * 100)
        shop.submit("b", "c", body=b"x" * 10)
        assert shop.batcher.waiting_bytes == 120

        shop.idle = 1
        shop.batcher.pump()

        assert shop.batcher.waiting_bytes == 10
        shop.batcher.close()

    run(scenario)


# --- time -----------------------------------------------------------------------------------------


def test_a_request_that_waits_too_long_is_answered_in_time_and_the_others_stay(run):
    async def scenario():
        shop = Shop(workers=0, timeout_s=10.0)
        shop.submit("a")
        await asyncio.sleep(4.0)
        shop.submit("b")
        await asyncio.sleep(5.9)
        assert shop.replies == {}

        await asyncio.sleep(0.2)

        at, reply = shop.replies["a"]
        assert at == pytest.approx(1010.0, abs=1e-6)
        assert isinstance(reply, DeadlineExceeded)
        assert str(reply) == "The request waited 10 s for a worker (response_timeout)."
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (1, 5)
        await asyncio.sleep(4.0)
        assert shop.replies["b"][0] == pytest.approx(1014.0, abs=1e-6)
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (0, 0)
        shop.batcher.close()

    run(scenario)


def test_the_time_limit_holds_again_after_the_queue_was_empty(run):
    async def scenario():
        shop = Shop(workers=1, timeout_s=1.0)
        [first] = shop.submit("first")
        await turn()
        await asyncio.sleep(5.0)
        first.resolve(Answer(b"ok"))

        shop.submit("second")
        await asyncio.sleep(1.5)

        assert shop.replies["second"][0] == pytest.approx(1006.0, abs=1e-6)
        shop.batcher.close()

    run(scenario)


def test_a_request_that_runs_is_not_the_queue_s_to_expire(run):
    async def scenario():
        shop = Shop(workers=1, timeout_s=1.0)
        shop.submit("a")
        await turn()
        await asyncio.sleep(3.0)

        assert shop.replies == {}
        shop.batcher.close()

    run(scenario)


async def teach(shop):
    """Batches cost 10 ms, and two clients are back half a millisecond after each answer."""
    for number in range(20):
        shop.batcher.answered([None] * (1 + number % 2), 0.010)
        await asyncio.sleep(0.0005)
        for job in shop.submit(f"teach-{number}-a", f"teach-{number}-b"):
            job.abandon()
        await asyncio.sleep(0.0105)
    shop.sent.clear()
    shop.batcher.answered([None] * 2, 0.010)


def test_a_held_batch_leaves_when_all_are_back(run):
    async def scenario():
        shop = Shop(size=8)
        await teach(shop)
        shop.submit("a")
        await turn()
        assert shop.sent == []

        await asyncio.sleep(0.0004)
        shop.submit("b")
        await turn()

        assert shop.names_sent == [["a", "b"]]
        shop.batcher.close()

    run(scenario)


def test_a_held_batch_leaves_when_the_others_should_have_been_back(run):
    async def scenario():
        shop = Shop(size=8)
        await teach(shop)
        answered_at = shop.loop.time()
        shop.submit("a")
        await turn()
        while not shop.sent:
            await asyncio.sleep(0.00001)

        assert shop.names_sent == [["a"]]
        assert answered_at + 0.0005 < shop.loop.time() < answered_at + 0.001
        assert 0.0 < shop.batcher.held_s < 0.001
        shop.batcher.close()

    run(scenario)


def test_who_cannot_be_answered_in_time_is_told_when_a_batch_is_formed(run):
    async def scenario():
        shop = Shop(workers=0, size=8)
        await teach(shop)
        shop.idle = 0
        now = shop.loop.time()
        jobs = [
            Job(Request(name, [], [("body", "", b"")]), now, shop.reply)
            for name in ("late", "soon", "whenever")
        ]
        jobs[0].deadline, jobs[1].deadline = now + 0.005, now + 0.1
        for job in jobs:
            shop.batcher.submit(job)
        shop.idle = 1
        shop.batcher.wake()
        await turn()

        assert shop.names_sent == [["soon", "whenever"]]
        assert shop.errors() == {"late": DeadlineExceeded}
        assert shop.late == [1]
        shop.batcher.close()

    run(scenario)


def test_a_held_batch_leaves_as_soon_as_it_is_full(run):
    async def scenario():
        shop = Shop(size=2)
        await teach(shop)
        shop.submit("a")
        await turn()
        assert shop.sent == []

        shop.submit("b")
        await turn()

        assert shop.names_sent == [["a", "b"]]
        shop.idle = 1
        await asyncio.sleep(0.1)  # the timer that held the batch is gone: nobody is sent twice
        assert shop.names_sent == [["a", "b"]]
        shop.batcher.close()

    run(scenario)


def test_a_closed_batcher_has_no_timers(run):
    async def scenario():
        shop = Shop(size=8, timeout_s=1.0)
        await teach(shop)
        [job] = shop.submit("held")
        await turn()
        shop.batcher.close()

        await asyncio.sleep(5.0)

        assert shop.sent == []
        assert shop.replies == {}
        assert job.is_open

    run(scenario)


# --- workers that die -----------------------------------------------------------------------------


KILLED = Loss("killed by signal 9 (SIGKILL)", is_self_inflicted=False)
CRASHED = Loss("exit code 3", number=7)


def test_a_batch_whose_worker_was_killed_from_outside_is_tried_again_together(run):
    async def scenario():
        shop = Shop(size=4)
        batch = shop.submit("a", "b")
        await turn()
        shop.submit("later")

        shop.idle = 1
        shop.batcher.lost(batch, KILLED)
        assert shop.batcher.waiting_bytes == 15
        await turn()
        assert shop.names_sent == [["a", "b"], ["a", "b", "later"]]

        shop.idle = 1
        shop.batcher.lost(shop.sent[1], KILLED)
        await turn()
        # `later` has died once, so it may still travel with others; the other two are suspects
        assert shop.names_sent[2:] == [["a"]]
        assert shop.retried == [(2, 0), (1, 2)]

        shop.answer(shop.sent[2])
        shop.answer(shop.sent[3])
        shop.answer(shop.sent[4])
        assert shop.names_sent[3:] == [["later"], ["b"]]
        assert shop.batcher.waiting_bytes == 0
        shop.batcher.close()

    run(scenario)


def test_a_request_that_kills_its_worker_alone_and_once_more_is_guilty_and_its_mates_are_not(run):
    async def scenario():
        shop = Shop(size=4)
        batch = shop.submit("a", "poison", "b")
        await turn()
        for _ in range(8):
            if not shop.running:
                break
            [*_, names] = shop.names_sent
            if "poison" in names:
                shop.lose(shop.running[-1], CRASHED)
            else:
                shop.answer(shop.running[-1])
            await turn()

        assert shop.names_sent == [
            ["a", "poison", "b"],
            *(["a"], ["poison"], ["b"], ["poison"]),
        ]
        assert shop.errors() == {"a": Answer, "b": Answer, "poison": PoisonRequest}
        text = str(shop.replies["poison"][1])
        [verdict] = shop.verdicts
        assert text.startswith("Worker died. Attempt 3: exit code 3.")
        assert verdict.incident in text
        assert verdict.deaths == (7, 7, 7)
        assert not any(job.is_open for job in batch)
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (0, 0)
        shop.batcher.close()

    run(scenario)


def test_a_guilty_request_is_alone_the_next_time_and_then_refused_and_harms_nobody(run):
    async def scenario():
        shop = Shop(size=4)

        async def bury(names):
            shop.submit(*names[:1], body=b"deadly")
            shop.submit(*names[1:])
            await turn()
            while shop.running:
                if any(job.request.parts[0][2] == b"deadly" for job in shop.running[-1]):
                    shop.lose(shop.running[-1], CRASHED)
                else:
                    shop.answer(shop.running[-1])
                await turn()

        await bury(["first", "a"])
        first = len(shop.sent)
        await bury(["second", "b"])

        assert sorted(shop.names_sent[first:]) == [["b"], ["second"]]
        with pytest.raises(PoisonRequestRefused):
            await bury(["third", "c"])
        await asyncio.sleep(601.0)
        later = len(shop.sent)
        await bury(["fourth", "d"])  # long ago is forgotten
        assert shop.names_sent[later] == ["fourth", "d"]
        shop.batcher.close()

    run(scenario)


def test_what_was_in_the_queue_already_when_the_same_request_was_found_guilty_harms_nobody(run):
    async def scenario():
        shop = Shop(size=1)
        shop.submit("one", "two", body=b"deadly")
        await turn()
        shop.lose(shop.running[-1], CRASHED)
        await turn()
        shop.lose(shop.running[-1], CRASHED)
        await turn()

        assert shop.names_sent[-1] == ["two"]
        assert shop.batcher.depth == 0
        shop.lose(shop.running[-1], CRASHED)
        assert shop.errors() == {"one": PoisonRequest, "two": PoisonRequest}
        shop.batcher.close()

    run(scenario)


def test_a_known_request_is_answered_by_its_deadline_wherever_it_is(run):
    async def scenario():
        shop = Shop(size=4, timeout_s=10.0)
        shop.submit("guilty", body=b"deadly")
        await turn()
        for _ in range(2):
            shop.lose(shop.running[-1], CRASHED)
            await turn()
        shop.submit("busy")
        await turn()
        [job] = shop.jobs("again", body=b"deadly")
        job.deadline = shop.loop.time() + 1.0
        shop.batcher.submit(job)
        await asyncio.sleep(1.5)

        at, reply = shop.replies["again"]
        assert (at, type(reply)) == (job.deadline, DeadlineExceeded)
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (0, 0)
        shop.batcher.close()

    run(scenario)


def test_a_body_is_looked_at_once_however_often_its_request_is_judged(run, monkeypatch):
    digest, looked_at = PoisonMemory.digest, []

    def watched(memory, request):
        looked_at.append(request.id)
        return digest(memory, request)

    async def scenario():
        shop = Shop(size=1)
        shop.submit("guilty", body=b"deadly")
        await turn()
        for _ in range(2):
            shop.lose(shop.running[-1], CRASHED)
            await turn()
        shop.submit("again", body=b"deadly")
        shop.submit("other")
        await turn()
        while shop.running:
            shop.answer(shop.running[-1])
            await turn()
        assert sorted(looked_at) == ["again", "guilty", "other"]
        shop.batcher.close()

    monkeypatch.setattr(PoisonMemory, "digest", watched)
    run(scenario)


def test_a_known_request_joins_nobody_in_the_middle_of_a_round(run):
    async def scenario():
        shop = Shop(size=1)
        shop.submit("one", body=b"deadly")
        await turn()
        shop.submit("two", body=b"deadly")  # it waits already when its like is found guilty
        shop.submit("mate")
        shop.lose(shop.running[-1], CRASHED)
        await turn()
        shop.lose(shop.running[-1], CRASHED)

        joining = shop.batcher.take("w", 4)
        assert [job.request.id for job in joining] == ["mate"]
        await turn()
        assert shop.names_sent[-1] == ["two"]
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (0, 0)
        shop.batcher.close()

    run(scenario)


def test_a_known_request_that_harms_nobody_any_more_is_like_all_others(run):
    async def scenario():
        shop = Shop(size=4)
        shop.submit("guilty", body=b"deadly")
        await turn()
        for _ in range(2):
            shop.lose(shop.running[-1], CRASHED)
            await turn()
        shop.submit("again", body=b"deadly")
        await turn()
        shop.answer(shop.running[-1])

        shop.submit("once more", "friend", body=b"deadly")
        await turn()

        assert shop.names_sent[-1] == ["once more", "friend"]
        shop.batcher.close()

    run(scenario)


def test_a_crowd_of_suspects_runs_in_groups_and_only_a_deadly_group_one_by_one(run):
    async def scenario():
        shop = Shop(size=100, has_crowds=True)
        crowd = shop.submit("poison", *(f"r{number}" for number in range(99)))
        await turn()
        shop.lose(crowd, CRASHED)
        await turn()
        while shop.running:
            batch = shop.running[-1]
            if any(job.request.id == "poison" for job in batch):
                shop.lose(batch, CRASHED)
            else:
                shop.answer(batch)
            await turn()

        sizes = [len(batch) for batch in shop.sent]
        assert sizes == [100, *[10] * 10, *[1] * 10]
        assert [name for name, what in shop.errors().items() if what is not Answer] == ["poison"]
        assert len(shop.replies) == 100
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (0, 0)
        shop.batcher.close()

    run(scenario)


def test_suspects_take_no_more_than_every_other_turn_of_a_lone_worker(run):
    async def scenario():
        shop = Shop(size=2)
        batch = shop.submit("a", "b")
        await turn()
        shop.submit("1", "2", "3", "4", "5", "6")
        shop.lose(batch, CRASHED)
        await turn()
        for _ in range(4):
            shop.answer(shop.running[-1])
            await turn()

        assert shop.names_sent[1:] == [["a"], ["1", "2"], ["b"], ["3", "4"], ["5", "6"]]
        shop.batcher.close()

    run(scenario)


def test_one_suspect_runs_at_a_time_and_the_other_workers_go_on(run):
    async def scenario():
        shop = Shop(workers=3, size=2)
        batch = shop.submit("a", "b")
        await turn()
        shop.submit("1", "2", "3", "4")
        shop.lose(batch, CRASHED)
        await turn()

        assert shop.names_sent[1:] == [["a"], ["1", "2"], ["3", "4"]]
        shop.submit("5")
        shop.answer(shop.running[1])
        assert shop.names_sent[-1] == ["5"]  # not b, although a worker was free
        shop.batcher.close()

    run(scenario)


@pytest.mark.parametrize("header", [("X-No-Retry", "1"), ("x-no-retry", " 1 ")])
def test_who_asks_for_one_execution_gets_no_second_one(run, header):
    async def scenario():
        shop = Shop(size=2)
        [once] = shop.submit("once", headers=[header])
        [often] = shop.submit("often", headers=[("x-no-retry", "0")])
        await turn()
        shop.lose([once, often], KILLED)
        await turn()

        assert shop.errors() == {"once": WorkerDied}
        assert shop.names_sent == [["once", "often"], ["often"]]
        shop.batcher.close()

    run(scenario)


def test_a_model_that_is_not_idempotent_executes_nothing_twice_but_what_never_left(run):
    async def scenario():
        shop = Shop(size=2, is_idempotent=False)
        batch = shop.submit("a", "b")
        await turn()
        unsent = frozenset(id(job) for job in batch)
        shop.lose(batch, Loss("killed", False, 1, unsent))
        await turn()
        assert shop.names_sent == [["a", "b"], ["a", "b"]]
        assert [job.attempts for job in batch] == [1, 1]

        shop.lose(batch, Loss("killed", False, 2))
        assert shop.errors() == {"a": WorkerDied, "b": WorkerDied}
        shop.batcher.close()

    run(scenario)


def test_what_has_streamed_is_not_tried_again(run):
    async def scenario():
        shop = Shop(size=2)
        [job] = shop.submit("a")
        await turn()
        job.stream(Answer(b"piece"))
        shop.lose([job], KILLED)

        assert shop.errors() == {"a": WorkerDied}
        shop.batcher.close()

    run(scenario)


def test_a_lost_request_that_nobody_waits_for_is_not_tried_again(run):
    async def scenario():
        shop = Shop(size=4)
        batch = shop.submit("a", "b")
        await turn()
        batch[0].abandon()
        shop.idle = 1
        shop.batcher.lost(batch, Loss("it was killed"))
        await turn()

        assert shop.names_sent == [["a", "b"], ["b"]]
        assert shop.batcher.waiting_bytes == 0
        shop.batcher.close()

    run(scenario)


def test_a_lost_request_is_still_answered_in_time_when_no_worker_comes_back(run):
    async def scenario():
        shop = Shop(timeout_s=10.0)
        batch = shop.submit("a")
        await turn()
        await asyncio.sleep(15.0)  # it runs; the queue was found empty meanwhile
        shop.batcher.lost(batch, Loss("it was killed"))
        await asyncio.sleep(0.1)

        assert shop.errors() == {"a": DeadlineExceeded}
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (0, 0)
        shop.batcher.close()

    run(scenario)


# --- the end --------------------------------------------------------------------------------------


def test_everything_that_waits_can_be_answered_with_an_error(run):
    async def scenario():
        shop = Shop(size=2)
        batch = shop.submit("a", "b")
        await turn()
        shop.submit("c", "d")
        for job in batch:
            job.attempts = 2
        shop.batcher.lost(batch, Loss("it was killed"))  # two suspects beside two that wait
        error = ShuttingDown("The model was unloaded.")

        shop.batcher.fail_all(error)

        assert {name: reply for name, (_, reply) in shop.replies.items()} == dict.fromkeys(
            ("a", "b", "c", "d"), error
        )
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (0, 0)
        assert shop.depths[-1] == 0
        shop.batcher.close()

    run(scenario)


def test_a_request_that_comes_while_all_are_being_answered_is_counted(run):
    async def scenario():
        shop = Shop(workers=0)

        def ask_again(job, reply):
            shop.submit("again", body=b"x" * 7)

        shop.batcher.submit(Job(Request("a", [], []), shop.loop.time(), ask_again))
        shop.batcher.fail_all(NoWorkers("m", None))

        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (1, 7)
        assert shop.depths == [1, 1, 1]
        shop.batcher.close()

    run(scenario)


def test_a_request_that_comes_while_others_expire_has_its_own_time(run):
    async def scenario():
        shop = Shop(workers=0, timeout_s=1.0)

        def ask_again(job, reply):
            shop.submit("again")

        shop.batcher.submit(Job(Request("a", [], []), shop.loop.time(), ask_again))
        await asyncio.sleep(1.5)
        assert shop.replies == {}
        await asyncio.sleep(1.0)

        assert shop.replies["again"][0] == pytest.approx(1002.0, abs=1e-6)
        shop.batcher.close()
        await asyncio.sleep(5.0)

    run(scenario)


# --- everything at once ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_every_request_is_answered_once_and_every_byte_is_counted(run, seed):
    async def scenario():
        dice = random.Random(seed)
        shop = Shop(workers=2, size=3, timeout_s=2.0)
        jobs, running = [], []
        for number in range(400):
            jobs += shop.submit(f"r{number}", body=b"%d" % number * dice.randrange(1, 9))
            running += shop.sent
            shop.sent.clear()
            if running and dice.random() < 0.5:
                batch = running.pop(dice.randrange(len(running)))
                if dice.random() < 0.3:
                    shop.idle += 1
                    shop.batcher.lost(batch, Loss("dice"))
                else:
                    shop.answer(batch)
            if dice.random() < 0.1:
                dice.choice(jobs).abandon()
            if dice.random() < 0.01:
                shop.batcher.fail_all(NoWorkers("m", None))
            if dice.random() < 0.5:
                await asyncio.sleep(dice.random() * 0.2)
            waiting = sum(
                job.request.size_bytes
                for job in jobs
                if job.is_open and not any(job in batch for batch in [*running, *shop.sent])
            )
            assert shop.batcher.waiting_bytes >= waiting  # abandoned ones are counted until taken
        for _ in range(1000):
            running += shop.sent
            shop.sent.clear()
            if running:
                shop.answer(running.pop())
            await asyncio.sleep(0.01)

        assert not any(job.is_open for job in jobs)
        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (0, 0)
        shop.batcher.close()

    run(scenario)


def test_clients_that_answer_an_answer_with_a_request_are_brought_together(run):
    """Eight clients and a worker that takes 8 ms a batch and 0.25 ms a request."""

    async def answers_in_three_seconds(delay_s):
        shop = Shop(size=32, delay_s=delay_s, timeout_s=60.0)
        dice, counted = random.Random(1), []

        def ask(_job=None, _reply=None):
            counted.append(shop.loop.time())
            job = Job(Request("r", [], []), 0.0, come_back)

            def send():
                job.queued_at = shop.loop.time()
                shop.batcher.submit(job)

            shop.loop.call_later(dice.uniform(0.0003, 0.0005), send)

        come_back = ask
        for _ in range(8):
            ask()
        begin = shop.loop.time()
        while shop.loop.time() < begin + 5.0:
            while not shop.sent:
                await asyncio.sleep(0.0002)
            batch = shop.sent.pop()
            took_s = (0.008 + 0.00025 * len(batch)) * dice.uniform(0.97, 1.03)
            await asyncio.sleep(took_s)
            shop.answer(batch, took_s)
        shop.batcher.close()
        return sum(when >= begin + 2.0 for when in counted)

    async def scenario():
        assert await answers_in_three_seconds(0.1) > 1.3 * await answers_in_three_seconds(0.0)

    run(scenario)


def test_what_comes_back_from_a_dead_worker_is_told_to_wait(run):
    async def scenario():
        shop = Shop()
        batch = shop.submit("a", "b")
        await turn()
        shop.batcher.lost(batch, Loss("it was killed"))

        assert shop.depths[-1] == 2
        shop.batcher.close()

    run(scenario)


def test_a_client_that_gives_up_over_one_answer_is_not_served_the_other(run):
    async def scenario():
        shop = Shop()

        def give_up(_job, _reply):
            shop.sent[0][1].abandon()

        shop.batcher.submit(Job(Request("a", [], []), shop.loop.time(), give_up))
        shop.submit("b")
        await turn()
        shop.sent[0][0].attempts = 3
        shop.batcher.lost(shop.sent[0], Loss("it was killed"))

        assert (shop.batcher.depth, shop.batcher.waiting_bytes) == (0, 0)
        shop.batcher.close()

    run(scenario)
