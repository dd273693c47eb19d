"""I4, I5: which worker is given what, while some of them hang and one has a suspect."""

import asyncio
import itertools
import signal

import pytest
from tests.harness.jumping_loop import jumping_loop
from tests.harness.simulated_workers import SimulatedSupervisor

from marserve import deployment as deployment_module
from marserve.batching import batcher as batcher_module
from marserve.batching import suspects as suspects_module
from marserve.deployment import Deployment, Origin
from marserve.events import Bus
from marserve.headroom import Headroom
from marserve.intake import Shared
from marserve.model_version import Settings
from marserve.refs import ModelRef
from marserve.request import Answer, Job, Request
from marserve.workers import pool as pool_module
from marserve.workers import worker as worker_module
from marserve.workers.messages import Load
from marserve.workers.recycling import WearLimits
from marserve.workers.worker import WorkerPlan

REF = ModelRef("m", "1.0")


@pytest.fixture
def run(monkeypatch):
    loop = jumping_loop(monkeypatch, batcher_module)
    for module in (suspects_module, deployment_module, pool_module, worker_module):
        monkeypatch.setattr(module, "time", batcher_module.time)
    # some of these want to know what time it is, and not only how much has passed
    batcher_module.time.time = loop.time
    yield lambda scenario: loop.run_until_complete(scenario())
    loop.close()


class Version:
    """A version with simulated workers, each of which answers when it is told to."""

    def __init__(self, workers, batch_size=1, **plan):
        self.loop = asyncio.get_running_loop()
        self.workers = workers
        self.replies = {}
        self.supervisor = SimulatedSupervisor()
        self.deployment = Deployment(
            Origin(REF, "m.mar", False),
            Settings(workers, workers, batch_size=batch_size, response_timeout_s=60),
            WorkerPlan(
                ref=REF,
                load=Load("m", "1.0", "/", "h", batch_size, None, True, True, 1000, None),
                preload=(),
                startup_timeout_s=20.0,
                response_timeout_s=60,
                max_frame_bytes=1 << 20,
                **plan,
            ),
            self.supervisor,
            Bus(),
            map("W-{}".format, itertools.count(1)).__next__,
            Shared(Headroom(1 << 40, lambda: 1 << 40, floor_bytes=0)),
        )

    async def start(self):
        self.deployment.scale(self.workers, self.workers)
        await self.load()
        return self.supervisor.alive

    async def load(self):
        await turn()
        for process in self.supervisor.alive:
            if process.is_loading:
                process.load()
        await turn()

    async def ask(self, *names):
        for name in names:
            request = Request(name, [], [("body", "", name.encode())])
            self.deployment.submit(Job(request, self.loop.time(), self.replied), None)
        await turn()

    def replied(self, job, reply):
        self.replies[job.request.id] = reply

    async def close(self):
        for process in self.supervisor.alive:
            process.wake_up()
            process.die(signal.SIGKILL)
        self.deployment.scale(0, 0)
        await self.deployment.close(1.0)


async def turn():
    for _ in range(12):
        await asyncio.sleep(0)


def having(process):
    return [item.id for batch in process.batches for item in batch.items]


def test_a_suspect_goes_to_a_worker_that_answers_and_waits_for_no_silent_one(run):
    async def scenario():
        version = Version(3)
        silent, other, dies = await version.start()
        silent.is_deaf = True
        await asyncio.sleep(2.0)  # by then everybody knows
        await version.ask("suspect", "plain")
        holder = next(one for one in (other, dies) if "suspect" in having(one))
        holder.die(signal.SIGSEGV)
        await turn()
        for process in version.supervisor.alive:
            if process is not silent and having(process) == ["plain"]:
                process.answer(process.batches[0])
        await turn()
        await version.load()

        assert having(silent) == []
        assert ["suspect"] in [having(one) for one in version.supervisor.alive]
        await version.close()

    run(scenario)


def test_a_worker_that_falls_silent_does_not_keep_the_suspect_that_waits_for_it(run):
    async def scenario():
        version = Version(2)
        first, second = await version.start()
        pool = version.deployment._pool
        hanging = first
        hanging.is_deaf = True
        await asyncio.sleep(0.5)  # it has been asked; that it hangs is not known yet
        pool._designation.worker = hanging.id
        assert pool.place_for_suspect() == hanging.id
        told = []
        version.deployment.on_idle = told.append
        await asyncio.sleep(1.0)

        assert told == [second.id]
        assert pool.place_for_suspect() == second.id
        await version.close()

    run(scenario)


def test_a_silent_worker_gets_nothing_when_the_suspects_are_gone_and_is_heard_again(run):
    async def scenario():
        version = Version(2)
        first, second = await version.start()
        pool = version.deployment._pool
        first.is_deaf = True
        await asyncio.sleep(2.0)
        pool._reserved = first.id
        pool.release_suspects()
        assert pool.idle == [second.id]

        first.wake_up()
        assert sorted(pool.idle) == [first.id, second.id]
        await version.close()

    run(scenario)


def test_with_many_requests_at_a_time_neither_the_silent_nor_the_lone_get_more(run):
    async def scenario():
        version = Version(3, batch_size=8, max_in_flight=2)
        silent, lone, serves = await version.start()
        pool = version.deployment._pool
        silent.is_deaf = True
        await asyncio.sleep(2.0)
        jobs = [Job(Request(name, [], []), version.loop.time()) for name in "abcdefg"]
        pool.send_alone(lone.id, jobs[:1])
        pool.send(jobs[1:])
        await turn()

        assert having(silent) == []
        assert having(lone) == ["a"]
        assert having(serves) == list("bcdefg")
        await version.close()

    run(scenario)


def test_nobody_joins_a_suspect_that_goes_on_for_several_rounds(run):
    async def scenario():
        version = Version(1, batch_size=4, round_size=4)
        [worker] = await version.start()
        await version.ask("suspect")
        worker.die(signal.SIGSEGV)
        await turn()
        await version.load()
        [worker] = version.supervisor.alive
        assert having(worker) == ["suspect"]
        await version.ask("fresh")
        for _ in range(2):
            worker.answer(worker.batches[0], goes_on=True)
            await turn()
            assert having(worker) == ["suspect"]

        worker.answer(worker.batches[0])
        await turn()
        assert having(worker) == ["fresh"]
        await version.close()

    run(scenario)


def test_a_ceiling_below_what_the_model_takes_is_told_of_and_no_endless_loading(
    run, monkeypatch, caplog
):
    monkeypatch.setattr(pool_module, "_memory_bytes", lambda pid: 500 << 20)

    async def scenario():
        version = Version(2, wear=WearLimits(above_mb=100))
        await version.start()
        for _ in range(10):
            await asyncio.sleep(1.0)
            await version.load()
        assert len(version.supervisor.processes) == 2
        told = [line for line in caplog.messages if "recycleAboveMb" in line]
        assert len(told) == 1
        assert "takes 500 MB" in told[0]

        await version.ask("a")
        [worker] = [one for one in version.supervisor.alive if one.batches]
        worker.answer(worker.batches[0])
        await asyncio.sleep(1.5)
        await version.load()
        assert len(version.supervisor.processes) == 3  # now it may be the worker that has grown
        await version.close()

    run(scenario)


def test_a_worker_that_hung_and_goes_on_is_of_use_again(run):
    async def scenario():
        version = Version(1)
        [worker] = await version.start()
        worker.is_deaf = True
        await asyncio.sleep(2.0)
        await version.ask("a")
        assert having(worker) == []

        worker.wake_up()
        await turn()
        assert having(worker) == ["a"]
        worker.answer(worker.batches[0])
        assert isinstance(version.replies["a"], Answer)
        await version.close()

    run(scenario)
