"""Who comes into a version's queue, who gives way, and what the refused are told (F23, F35, I4)."""

import asyncio
import math

import pytest
from tests.harness.jumping_loop import jumping_loop

from marserve import errors
from marserve.batching import batcher as batcher_module
from marserve.batching.batcher import Batcher
from marserve.batching.quota import Quota
from marserve.batching.window import Limits
from marserve.headroom import Headroom
from marserve.intake import Intake, Shared
from marserve.model_version import Settings
from marserve.refs import ModelRef
from marserve.request import CRITICAL, HIGH, LOW, NORMAL, Job, Request
from marserve.workers.restarts import Standing


@pytest.fixture
def run(monkeypatch):
    loop = jumping_loop(monkeypatch, batcher_module)
    yield lambda scenario: loop.run_until_complete(scenario())
    loop.close()


class Pool:
    """Workers, as far as an intake looks at them."""

    def __init__(self):
        self.wanted = self.ready = 1
        self.is_serving, self.is_hopeless, self.has_idle = True, False, False
        self.idle = []
        self.last_error, self.probe_in_s = None, None
        self.standing = Standing.SOUND


class Asked(Job):
    who = ""

    @property
    def client(self):
        return self.who


class Door:
    """An intake with a queue that no worker empties."""

    def __init__(self, queue_size=4, total_bytes=1 << 40, quota=None, floor_bytes=0, **settings):
        self.loop = asyncio.get_running_loop()
        self.pool, self.shed, self.replies, self.asleep = Pool(), [], {}, 0
        self.sent = []
        self.free_bytes = 1 << 40
        self.batcher = Batcher(
            Limits(2, 0.0), 60.0, lambda: self.pool.has_idle, self.send, lambda depth: None
        )
        self.headroom = Headroom(total_bytes, lambda: self.free_bytes, floor_bytes)
        self.intake = Intake(
            ModelRef("m", "1.0"),
            Settings(1, 1, queue_size=queue_size, **settings),
            self.batcher,
            self.pool,
            Shared(self.headroom, quota),
            1,
            self.slept,
            self.shed.append,
        )

    def send(self, jobs):
        self.sent.append([job.request.id for job in jobs])
        self.pool.has_idle = False

    def slept(self):
        self.asleep += 1

    def ask(self, name, who="", priority=NORMAL, left_s=None, body=b"", then=None):
        """Submit a request; its job."""
        job = Asked(Request(name, [], [("body", "", body)]), self.loop.time(), self.reply)
        job.who, job.priority = who, priority
        if left_s is not None:
            job.deadline = job.queued_at + left_s
        self.then = then
        self.intake.submit(job, None)
        return job

    def reply(self, job, reply):
        self.replies[job.request.id] = reply
        if self.then is not None:
            self.then()

    def refused(self, *arguments, **options):
        with pytest.raises(errors.MarServeError) as caught:
            self.ask(*arguments, **options)
        return caught.value

    def waiting(self):
        return [job.request.id for job in self.batcher._window.all_waiting()]

    def teach(self, batch_s):
        for size in (1, 2) * 4:
            self.batcher.answered([Job(Request("", [], []), 0.0)] * size, batch_s)


def test_a_full_queue_says_so_and_when_to_come_back(run):
    async def scenario():
        door = Door()
        for name in "abcd":
            door.ask(name)
        error = door.refused("e")
        assert (type(error), error.reason) == (errors.QueueFull, "queue_full")
        assert 1 <= error.retry_after_s <= 30
        assert door.waiting() == list("abcd")

    run(scenario)


def test_who_is_refused_by_the_queue_itself_gets_no_second_answer_from_a_clock(run):
    async def scenario():
        door = Door(client_timeout_ms=100)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(door.batcher, "submit", full)
            assert isinstance(door.refused("a"), errors.PoisonRequestRefused)
        await asyncio.sleep(1.0)
        assert door.replies == {}

        door.ask("b")
        await asyncio.sleep(1.0)
        assert isinstance(door.replies["b"], errors.DeadlineExceeded)

    def full(job):
        raise errors.PoisonRequestRefused

    run(scenario)


def test_a_more_urgent_request_takes_the_place_of_the_latest_of_the_least_urgent(run):
    async def scenario():
        door = Door()
        for name, priority in zip("abcd", (LOW, NORMAL, LOW, HIGH), strict=True):
            door.ask(name, priority=priority)
        door.ask("e", priority=HIGH)
        assert door.waiting() == ["d", "e", "b", "a"]
        assert door.replies["c"].reason == "shedding"
        assert 1 <= door.replies["c"].retry_after_s <= 30
        assert door.refused("f", priority=LOW).reason == "queue_full"
        door.ask("g", priority=CRITICAL)
        door.ask("h", priority=CRITICAL)
        assert door.waiting() == ["g", "h", "d", "e"]
        assert door.refused("i", priority=NORMAL).reason == "queue_full"
        assert door.shed == [1, 1, 1]

    run(scenario)


def test_a_client_with_little_takes_a_place_of_the_one_with_most(run):
    async def scenario():
        door = Door(queue_size=6)
        for name in "abcdef":
            door.ask(name, who="greedy")
        assert door.refused("g", who="greedy").reason == "queue_full"
        for name in "hij":
            door.ask(name, who="modest")
        assert door.waiting() == list("abchij")
        assert door.refused("k", who="modest").reason == "queue_full"
        assert {door.replies[name].reason for name in "def"} == {"shedding"}
        door.ask("l", who="third")
        assert len(door.waiting()) == 6

    run(scenario)


def test_shares_are_right_although_requests_leave_and_come_meanwhile(run):
    async def scenario():
        door = Door(queue_size=6)
        jobs = [door.ask(name, who="greedy") for name in "abcdef"]
        door.ask("g", who="modest")  # shares are counted from now on
        jobs[0].abandon()
        jobs[1].abandon()
        door.ask("h", who="modest")
        door.ask("i", who="modest")
        assert door.refused("j", who="modest").reason == "queue_full"
        for job in jobs[:5]:
            job.abandon()
        assert door.waiting() == ["g", "h", "i"]
        for name in "klm":
            door.ask(name, who="modest")
        door.ask("n", who="other")
        assert door.waiting() == list("ghikln")

    run(scenario)


def test_whoever_gives_way_and_asks_again_at_once_does_not_overfill_the_queue(run):
    async def scenario():
        door = Door()
        for name in "abcd":
            door.ask(name, who="greedy")
        again = []

        def ask_again():
            again.append(door.refused("again", who="greedy"))

        door.ask("e", who="modest", then=ask_again)
        assert [error.reason for error in again] == ["queue_full"]
        assert door.waiting() == list("abce")

    run(scenario)


def test_a_deadline_that_cannot_be_met_is_refused_only_once_that_is_known(run):
    async def scenario():
        door = Door(queue_size=100)
        for number in range(10):
            door.ask(str(number))
        door.ask("unknown", left_s=0.2)
        door.teach(batch_s=0.1)
        error = door.refused("late", left_s=0.3)  # six batches are before it
        assert (type(error), error.reason) == (errors.DeadlineUnreachable, "deadline_unreachable")
        door.ask("patient", left_s=2.0)
        door.ask("urgent", left_s=0.3, priority=CRITICAL)

    run(scenario)


@pytest.mark.parametrize("left_s", [0.0, -5.0])
def test_a_request_that_is_too_late_already_is_never_taken(run, left_s):
    async def scenario():
        door = Door()
        assert door.refused("late", left_s=left_s).reason == "deadline_unreachable"
        assert door.waiting() == []

    run(scenario)


def test_a_greedy_client_does_not_keep_others_out_by_their_deadlines(run):
    async def scenario():
        door = Door(queue_size=100)
        door.teach(batch_s=0.1)
        for number in range(100):  # as many as can be answered in time
            try:
                door.ask(str(number), who="greedy", left_s=0.5)
            except errors.DeadlineUnreachable:
                break
        depth = len(door.waiting())
        assert 2 < depth < 20
        assert door.refused("more", who="greedy", left_s=0.5).reason == "deadline_unreachable"
        door.ask("modest", who="modest", left_s=0.5)
        assert len(door.waiting()) == depth
        assert door.waiting()[-1] == "modest"

    run(scenario)


def test_bytes_are_bounded_over_all_versions_together(run):
    async def scenario():
        one, two = Door(total_bytes=4000), Door()
        two.headroom.leave(two.intake)
        one.headroom.join(two.intake)
        two.intake._headroom = one.headroom
        for name in "abc":
            one.ask(name, body=b"x" * 250)
        assert one.refused("d", body=b"x").reason == "queue_bytes"  # 250 are the other's to take
        two.ask("e", body=b"x" * 250)
        assert two.refused("f", body=b"x").reason == "queue_bytes"
        one.batcher.fail_all(errors.Shed("gone"))
        for name in "ghi":
            two.ask(name, body=b"x" * 150)

    run(scenario)


def test_with_too_little_memory_nothing_is_taken_until_there_is_enough(run):
    async def scenario():
        door = Door(floor_bytes=1000)
        door.ask("a")
        door.free_bytes = 999
        await asyncio.sleep(1.1)
        error = door.refused("b")
        assert (type(error), error.reason) == (errors.MemoryLow, "memory")
        door.free_bytes = 1000
        await asyncio.sleep(1.1)
        door.ask("c")
        door.intake.close()

    run(scenario)


def test_a_client_over_its_quota_waits_and_others_do_not(run):
    async def scenario():
        door = Door(quota=Quota(2.0))
        door.ask("a", who="fast")
        door.ask("b", who="fast")
        error = door.refused("c", who="fast")
        assert (type(error), error.reason, error.retry_after_s) == (
            errors.QuotaExceeded,
            "quota",
            1,
        )
        door.ask("d", who="slow")
        await asyncio.sleep(0.6)
        door.ask("e", who="fast")

    run(scenario)


@pytest.mark.parametrize(
    ("standing", "told"),
    [(Standing.LOAD_FAILED, errors.NoWorkers), (Standing.CRASH_LOOP, errors.CrashLooping)],
)
def test_a_crash_loop_is_told_at_once_with_the_time_of_the_next_try(run, standing, told):
    async def scenario():
        door = Door()
        door.pool.is_serving, door.pool.is_hopeless, door.pool.ready = False, True, 0
        door.pool.last_error, door.pool.probe_in_s = "no such file", 6.2
        door.pool.standing = standing
        error = door.refused("a")
        assert (type(error), error.reason) == (told, "no_workers")
        assert (error.retry_after_s, "no such file" in error.message) == (7, True)

    run(scenario)


def test_a_model_scaled_to_nothing_is_told_in_torchserves_words_with_no_time(run):
    async def scenario():
        door = Door()
        door.pool.is_serving, door.pool.wanted, door.pool.ready = False, 0, 0
        door.intake.scaled(Settings(0, 0))
        error = door.refused("a")
        assert (error.message, error.retry_after_s) == (errors.NoWorkers("m", None).message, None)

    run(scenario)


def test_a_sleeping_model_takes_a_request_and_is_woken(run):
    async def scenario():
        door = Door()
        door.pool.is_serving, door.pool.wanted, door.pool.ready = False, 0, 0
        door.ask("a")
        assert (door.waiting(), door.asleep) == (["a"], 1)

    run(scenario)


def test_a_version_that_closes_takes_nothing(run):
    async def scenario():
        door = Door()
        door.intake.close()
        error = door.refused("a")
        assert (type(error), error.reason) == (errors.ShuttingDown, "closing")
        assert math.isfinite(error.retry_after_s)

    run(scenario)


def test_more_requests_than_fit_are_refused_however_they_come(run):
    """I4: whatever mixture of clients and classes comes, the queue never holds more than it may."""

    async def scenario():
        door = Door(queue_size=5)
        taken = refused = 0
        for number in range(500):
            who, priority = f"c{number * 7 % 11}", number * 13 % 4
            try:
                door.ask(str(number), who=who, priority=priority)
                taken += 1
            except errors.QueueFull:
                refused += 1
            assert len(door.waiting()) == min(5, number + 1)
        assert taken + refused == 500
        assert taken == len(door.waiting()) + len(door.replies)

    run(scenario)
