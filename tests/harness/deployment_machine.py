"""A version under every kind of trouble, in any order: what must hold after each step (H-BATCH).

The real deployment, intake, batcher, quarantine, pool and lifecycle, with simulated processes and a
clock that jumps. Checked after every step: exactly one answer at most (I1), and one's own (I2); no
more executions than promised (I3); every queue counted and bounded, suspects alone (I4).
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from types import SimpleNamespace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.harness.jumping_loop import jumping_loop
from tests.harness.simulated_workers import SimulatedProcess, SimulatedSupervisor, exit_status

import marserve.batching.batcher
import marserve.batching.suspects
import marserve.deployment
import marserve.workers.pool
import marserve.workers.worker
from marserve.deployment import Deployment, Origin
from marserve.errors import MarServeError, PoisonRequest, PoisonRequestRefused, WorkerDied
from marserve.events import Bus
from marserve.headroom import Headroom
from marserve.intake import Shared
from marserve.model_version import Settings
from marserve.refs import ModelRef
from marserve.request import HIGH, LOW, NORMAL, Answer, Job, Request
from marserve.workers.load_gate import LoadGate
from marserve.workers.messages import Batch, Load
from marserve.workers.recycling import WearLimits
from marserve.workers.worker import WorkerPlan

REF = ModelRef("m", "1.0")
QUEUE_SIZE = 12
BATCH_SIZE = 4
TIMEOUT_S = 5
_CLOCKED = (
    marserve.batching.batcher,
    marserve.batching.suspects,
    marserve.deployment,
    marserve.workers.pool,
    marserve.workers.worker,
)
KINDS = (
    *("plain", "plain", "plain", "hurried", "once"),
    *("poison", "same poison", "batched poison"),
    *("urgent", "low", "greedy"),
)
CLASSES = {"urgent": HIGH, "low": LOW}


class Asked:
    """One request as the ledger has it."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        self.replies: list[object] = []
        self.executions = 0
        self.kills = 0
        """How often a worker that had it was killed, hung or lied for no reason of any request."""
        self.crashes = 0
        self.is_abandoned = False
        self.job: Job | None = None


class ClientsJob(Job):
    """A job of one of three clients, or of a greedy one."""

    who = ""

    @property
    def client(self) -> str:
        return self.who


class DeploymentMachine(RuleBasedStateMachine):
    """Steps that Hypothesis combines."""

    batches_per_worker = 1

    def __init__(self) -> None:
        super().__init__()
        self._patched = SimpleNamespace(setattr=self._patch)
        self._saved = [(module, module.time) for module in _CLOCKED]
        self.loop = jumping_loop(self._patched, _CLOCKED[0])
        for module in _CLOCKED[1:]:
            module.time = SimpleNamespace(monotonic=self.loop.time, time=self.loop.time)
        self.names = itertools.count(1)
        self.ledger: dict[str, Asked] = {}
        self.failing_loads = 0
        """So many loads are still to fail."""
        self.is_loading_held = False
        self.run(self._open())

    def _patch(self, module: object, name: str, value: object) -> None:
        setattr(module, name, value)

    async def _open(self) -> None:
        self.supervisor = SimulatedSupervisor()
        settings = Settings(
            2,
            2,
            batch_size=BATCH_SIZE,
            queue_size=QUEUE_SIZE,
            response_timeout_s=TIMEOUT_S,
            startup_timeout_s=20,
        )
        plan = WorkerPlan(
            ref=REF,
            load=Load("m", "1.0", "/", "h", BATCH_SIZE, None, True, True, 1000, None),
            preload=(),
            startup_timeout_s=20.0,
            response_timeout_s=TIMEOUT_S,
            max_frame_bytes=1 << 20,
            wear=WearLimits(after_requests=40),
            load_gate=LoadGate(1),
            max_in_flight=self.batches_per_worker,
        )
        numbers = (f"W-{n}" for n in itertools.count(1))
        self.deployment = Deployment(
            Origin(REF, "m.mar", False),
            settings,
            plan,
            self.supervisor,  # type: ignore[arg-type]
            Bus(),
            numbers.__next__,
            Shared(Headroom(1 << 40, lambda: 1 << 40, floor_bytes=0)),
        )
        self.deployment.scale(2, 2)
        await self._turn()
        # without workers every invariant holds
        assert self.supervisor.alive, "no worker has begun"

    def run(self, step: object) -> None:
        self.loop.run_until_complete(step)  # type: ignore[arg-type]

    async def _turn(self) -> None:
        """Until everything that is due now has run."""
        for _ in range(12):
            await asyncio.sleep(0)
        for process in self.supervisor.processes:
            process.on_batch = self._executed
            if process.is_loading and not self.is_loading_held:
                await self._load(process)

    async def _load(self, process: SimulatedProcess) -> None:
        if self.failing_loads:
            self.failing_loads -= 1
            process.fail_to_load()
            process.die(exit_status(1))
        else:
            process.load()
        for _ in range(12):
            await asyncio.sleep(0)

    # --- what clients do ---

    @rule(kind=st.sampled_from(KINDS), count=st.integers(1, 5))
    def ask(self, kind: str, count: int) -> None:
        self.run(self._ask(kind, count))

    async def _ask(self, kind: str, count: int) -> None:
        for _ in range(count):
            asked = Asked(kind, f"r{next(self.names)}")
            body = b"deadly" if kind == "same poison" else asked.name.encode()
            headers = [("x-no-retry", "1")] if kind == "once" else []
            request = Request(asked.name, headers, [("body", "", body)])
            asked.job = ClientsJob(
                request, self.loop.time(), lambda job, reply: self._replied(job, reply)
            )
            asked.job.priority = CLASSES.get(kind, NORMAL)
            asked.job.who = kind if kind == "greedy" else str(len(self.ledger) % 3)
            if kind == "hurried":
                asked.job.deadline = self.loop.time() + 1.0
            self.ledger[asked.name] = asked
            try:
                self.deployment.submit(asked.job, None)
            except MarServeError as refused:
                asked.replies.append(refused)
                asked.job.abandon()
        await self._turn()

    def _replied(self, job: Job, reply: object) -> None:
        self.ledger[job.request.id].replies.append(reply)

    @rule(which=st.integers(0, 1000))
    def hang_up(self, which: int) -> None:
        waiting = [one for one in self.ledger.values() if one.job and one.job.is_open]
        if waiting:
            asked = waiting[which % len(waiting)]
            asked.is_abandoned = True
            assert asked.job is not None
            asked.job.abandon()

    # --- what workers do ---

    def _executed(self, process: SimulatedProcess, batch: Batch) -> None:
        for item in batch.items:
            self.ledger[item.id].executions += 1

    def _busy(self) -> list[SimulatedProcess]:
        return [one for one in self.supervisor.alive if one.batches and not one.is_doomed]

    @rule(
        times=st.integers(1, 6),
        which=st.integers(0, 9),
        memory=st.sampled_from([False] * 4 + [True]),
    )
    def work(self, times: int, which: int, memory: bool) -> None:
        """Workers run what they have, with what follows from that."""
        for _ in range(times):
            busy = self._busy()
            if busy:
                self.run(self._work(busy[which % len(busy)], memory))

    @rule(rounds=st.integers(1, 20))
    def work_on(self, rounds: int) -> None:
        """All workers run what they have, and what they get then."""
        for _ in range(rounds):
            for process in self._busy():
                if process.batches and not process.is_doomed:
                    self.run(self._work(process, is_out_of_memory=False))

    @rule(kind=st.sampled_from(KINDS), count=st.integers(1, 4))
    def ask_and_work(self, kind: str, count: int) -> None:
        """Requests come, and what leaves with them runs."""
        self.run(self._ask(kind, count))
        self.work_on(1)

    async def _work(self, process: SimulatedProcess, is_out_of_memory: bool) -> None:
        batch = process.batches[0]
        together = process.batches if self.batches_per_worker > 1 else [batch]
        asked = [self.ledger[item.id] for one in together for item in one.items]
        kinds = {one.kind for one in asked}
        is_deadly = bool(kinds & {"poison", "same poison"})
        if is_deadly or ("batched poison" in kinds and len(asked) > 1):
            for one in asked:
                one.crashes += 1
            process.die(signal.SIGSEGV)
        else:
            process.answer(batch, is_out_of_memory)
        await self._turn()

    @rule(count=st.integers(1, 4))
    def break_loading(self, count: int) -> None:
        """The next loads fail."""
        self.failing_loads = count

    @rule(is_held=st.booleans())
    def hold_loading(self, is_held: bool) -> None:
        """Loads take until this is over."""
        self.is_loading_held = is_held
        self.run(self._turn())

    @rule(
        which=st.integers(0, 9),
        status=st.sampled_from([signal.SIGKILL, signal.SIGKILL, exit_status(3)]),
        hangs_up_first=st.booleans(),
    )
    def kill(self, which: int, status: int, hangs_up_first: bool) -> None:
        """A worker ends for no reason of its requests'."""
        alive = self._busy() or [one for one in self.supervisor.alive if not one.is_doomed]
        if alive:
            self.run(self._kill(alive[which % len(alive)], int(status), hangs_up_first))

    async def _kill(self, process: SimulatedProcess, status: int, hangs_up_first: bool) -> None:
        self._blame(process)
        process.die(status, hangs_up_first)
        await self._turn()

    def _blame(self, process: SimulatedProcess) -> None:
        for batch in process.batches:
            for item in batch.items:
                self.ledger[item.id].kills += 1

    @precondition(lambda self: self._busy())
    @rule(which=st.integers(0, 9), how=st.integers(0, 5))
    def lie(self, which: int, how: int) -> None:
        busy = self._busy()
        self.run(self._lie(busy[which % len(busy)], how))

    async def _lie(self, process: SimulatedProcess, how: int) -> None:
        self._blame(process)
        process.lie(how)
        await self._turn()

    @rule(which=st.integers(0, 9))
    def repeat(self, which: int) -> None:
        """An answer comes a second time, before or after another batch was given to its worker."""
        alive = [one for one in self.supervisor.alive if one.answered and not one.is_doomed]
        if alive:
            self.run(self._repeat(alive[which % len(alive)]))

    async def _repeat(self, process: SimulatedProcess) -> None:
        self._blame(process)
        process.repeat()
        await self._turn()

    # --- what time and operators do ---

    @rule(seconds=st.sampled_from([0.01, 0.3, 2.0, 6.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.run(self._wait(seconds))

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._turn()

    @rule(count=st.sampled_from([0, 1, 1, 2, 2, 3, 4]))
    def scale(self, count: int) -> None:
        self.run(self._scale(count))

    async def _scale(self, count: int) -> None:
        self.deployment.scale(count, count)
        await self._turn()

    # --- what must hold ---

    @invariant()
    def everybody_has_at_most_one_answer_and_it_is_their_own(self) -> None:
        for asked in self.ledger.values():
            assert len(asked.replies) <= 1, asked.name
            assert not (asked.is_abandoned and asked.replies), asked.name
            for reply in asked.replies:
                if isinstance(reply, Answer):
                    assert reply.body == asked.name.encode(), asked.name
                    assert asked.kind not in ("poison", "same poison")

    @invariant()
    def nobody_is_executed_more_often_than_promised(self) -> None:
        for asked in self.ledger.values():
            assert asked.executions <= (1 if asked.kind == "once" else 3), asked.name

    @invariant()
    def nobody_pays_for_another_s_poison(self) -> None:
        """Who is no poison gets an error only after kills that nobody can blame on a request."""
        for asked in self.ledger.values():
            if asked.kind in ("plain", "batched poison"):
                for reply in asked.replies:
                    if isinstance(reply, WorkerDied | PoisonRequest):
                        least = 2 if self.batches_per_worker == 1 else 1
                        assert asked.kills >= least, (asked.name, asked.kills)
                    assert not isinstance(reply, PoisonRequestRefused), asked.name

    @invariant()
    def nobody_waits_for_ever(self) -> None:
        """As long as one may wait for a worker, and then for its answer."""
        for asked in self.ledger.values():
            if asked.job is not None and asked.job.is_open:
                assert self.loop.time() - asked.job.queued_at <= 2 * TIMEOUT_S + 0.1, asked.name

    @invariant()
    def suspects_are_with_nobody_else(self) -> None:
        """On one worker, each alone, or in a group of those that shared a crowd's worker."""
        theirs = []
        for process in self._busy():
            having = [self.ledger[item.id] for one in process.batches for item in one.items]
            if any(one.crashes for one in having):
                theirs.append(process)
                assert all(one.crashes for one in having)
                assert len(having) == 1 or self.batches_per_worker > 1
        assert len(theirs) <= 1

    @invariant()
    def what_waits_is_counted_and_bounded(self) -> None:
        batcher = self.deployment._batcher
        held = {item.id for one in self.supervisor.alive for b in one.batches for item in b.items}
        waiting = [
            one
            for one in self.ledger.values()
            if one.job is not None and one.job.is_open and not one.replies and one.name not in held
        ]
        assert batcher.depth == len(waiting)
        assert batcher.waiting_bytes == sum(one.job.request.size_bytes for one in waiting)  # type: ignore[union-attr]
        # what came back from dead workers was let in before
        assert batcher.depth <= QUEUE_SIZE + 4 * BATCH_SIZE * self.batches_per_worker
        self.deployment._pool._lifecycle.check()

    # --- the end ---

    def teardown(self) -> None:
        """From now on all workers do their best: nobody is left without an end."""
        try:
            self.run(self._settle())
            for asked in self.ledger.values():
                assert asked.replies or asked.is_abandoned, f"{asked.name} was lost"
            self.run(self._prove_it_serves())
            self.everybody_has_at_most_one_answer_and_it_is_their_own()
            self.nobody_is_executed_more_often_than_promised()
            self.nobody_pays_for_another_s_poison()
            self.run(self._close())
        finally:
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            self.run(asyncio.wait(left) if left else asyncio.sleep(0))
            self.loop.close()
            for module, clock in self._saved:
                module.time = clock

    async def _settle(self) -> None:
        self.failing_loads, self.is_loading_held = 0, False
        self.deployment.scale(2, 2)
        for _ in range(300):
            for process in list(self.supervisor.alive):
                if process.batches and not process.is_doomed:
                    await self._work(process, is_out_of_memory=False)
            await self._wait(0.2)
            if not any(one.job and one.job.is_open for one in self.ledger.values()):
                return

    async def _prove_it_serves(self) -> None:
        """Whatever happened before, the next request is answered."""
        await self._ask("plain", 1)
        await self._settle()
        [reply] = self.ledger[f"r{next(self.names) - 1}"].replies
        assert isinstance(reply, Answer), reply

    async def _close(self) -> None:
        closing = asyncio.ensure_future(self.deployment.close(1.0))
        while not closing.done():
            await self._wait(0.1)
        closing.result()


class CrowdMachine(DeploymentMachine):
    """The same with workers that have many requests at a time, each by itself."""

    batches_per_worker = 12
