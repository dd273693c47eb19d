"""Registering, restoring and forgetting workflows, with a plane that remembers its nodes."""

import asyncio
import json
import zipfile

import pytest

from marserve.errors import (
    HandlerFailed,
    LoadFailed,
    ModelNotFound,
    StateNotSaved,
    WorkflowConflict,
    WorkflowFailed,
    WorkflowNotFound,
)
from marserve.pipelines.workflows import Workflows
from marserve.protocols.workflows import WorkflowRegistration
from marserve.registry.store import ModelStore
from marserve.request import Answer, Job, Request

SPEC = "models: {m: {url: m.mar, batch-size: 4, max-workers: 2}}\ndag: {f: [m]}"
WISH = WorkflowRegistration("w.war", response_timeout_s=5)


class Plane:
    """Registers everything but what it is told not to; `gate` holds registrations up."""

    def __init__(self):
        self.nodes = {}
        self.wishes = {}
        self.troubles = {}
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def register_node(self, wish, node, archive):
        self.asked.set()
        await self.gate.wait()
        if wish.model_name in self.troubles:
            raise self.troubles[wish.model_name]
        self.nodes[wish.model_name] = node
        self.wishes[wish.model_name] = (wish, archive)

    async def unregister_nodes(self, workflow):
        self.nodes = {m: node for m, node in self.nodes.items() if node.workflow != workflow}


class World:
    def __init__(self, root):
        self.root = root
        self.jobs = []
        self.begin()

    def begin(self, **options):
        """A new run of the server."""
        self.plane = Plane()
        store = ModelStore(self.root / "store", self.root / "cache")
        state = self.root / "state"
        self.flows = Workflows(self.plane, self.infer, store, state, 0.05, **options)
        return self.flows

    def infer(self, name, version, request, reply_to):
        if name not in self.plane.nodes:
            raise ModelNotFound(name)
        self.jobs.append(Job(request, 0.0, reply_to))
        return self.jobs[-1]

    def write(self, name, spec=SPEC):
        folder = self.root / "store" / f"{name}.war"
        (folder / "WAR-INF").mkdir(parents=True, exist_ok=True)
        manifest = {"workflow": {"workflowName": name, "specFile": "s.yaml", "handler": "h.py"}}
        (folder / "WAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
        (folder / "s.yaml").write_text(spec)
        (folder / "h.py").write_text("def f(data, context): pass")


@pytest.fixture
def in_world(tmp_path):
    """Runs a story on an event loop."""

    def run(story):
        async def told():
            world = World(tmp_path)
            world.write("w")
            await story(world)

        asyncio.run(told())

    return run


def test_nodes_become_models_of_the_planes_with_their_settings(in_world):
    async def story(world):
        assert await world.flows.register_workflow(WISH) == "w"
        (function, archive), (model, nothing) = (
            world.plane.wishes["w__f"],
            world.plane.wishes["w__m"],
        )
        assert (function.handler, function.batch_size, function.initial_workers) == ("h.py:f", 1, 1)
        assert archive.model_dir == world.root / "store" / "w.war"
        assert (model.url, model.handler, nothing) == ("m.mar", None, None)
        assert (model.batch_size, model.initial_workers, model.response_timeout_s) == (4, 2, 5)
        assert [node.is_function for node in world.plane.nodes.values()] == [True, False]
        [listed] = await world.flows.workflows()
        assert listed == await world.flows.describe_workflow("w")
        assert (listed.name, listed.url, listed.dag) == ("w", "w.war", {"f": ("m",)})

    in_world(story)


def test_a_node_that_cannot_be_registered_takes_all_others_along(in_world):
    async def story(world):
        world.plane.troubles["w__m"] = LoadFailed("no memory")
        with pytest.raises(WorkflowFailed) as caught:
            await world.flows.register_workflow(WISH)
        assert caught.value.message == (
            "Workflow w has failed to register. Failures: "
            "[Workflow Node w__m failed to register. Details: no memory]"
        )
        assert (world.plane.nodes, await world.flows.workflows()) == ({}, ())
        world.plane.troubles.clear()
        await world.flows.register_workflow(WISH)

    in_world(story)


def test_what_cannot_be_saved_is_not_registered(in_world):
    async def story(world):
        (world.root / "state").write_text("no folder")
        with pytest.raises(StateNotSaved):
            await world.flows.register_workflow(WISH)
        assert (world.plane.nodes, await world.flows.workflows()) == ({}, ())
        with pytest.raises(WorkflowNotFound):
            world.flows.predict("w", Request("1", [], []), print)

    in_world(story)


def test_of_two_registrations_at_once_one_is_a_conflict(in_world):
    async def story(world):
        world.plane.gate.clear()
        first = asyncio.ensure_future(world.flows.register_workflow(WISH))
        await world.plane.asked.wait()
        with pytest.raises(WorkflowConflict, match="Workflow w is already registered"):
            await world.flows.register_workflow(WISH)
        with pytest.raises(WorkflowNotFound):
            await world.flows.unregister_workflow("w")
        world.plane.gate.set()
        assert await first == "w"
        assert set(world.plane.nodes) == {"w__f", "w__m"}

    in_world(story)


def test_a_restart_restores_what_is_wanted_under_the_names_it_had(in_world):
    async def story(world):
        await world.flows.register_workflow(WorkflowRegistration("w.war", "x"))
        await world.flows.register_workflow(WISH)
        await world.flows.unregister_workflow("w")
        assert world.plane.nodes.keys() == {"x__f", "x__m"}

        flows = world.begin()
        assert await flows.start() == ()
        assert world.plane.nodes.keys() == {"x__f", "x__m"}
        assert not world.plane.wishes["x__m"][0].synchronous
        assert [one.name for one in await flows.workflows()] == ["x"]

        assert await world.begin(keeps=False).start() == ()
        assert world.plane.nodes == {}

    in_world(story)


def test_a_workflow_whose_archive_was_replaced_is_not_restored(in_world):
    def pack(root, spec):
        with zipfile.ZipFile(root / "store" / "z.war", "w") as archive:
            manifest = {"workflow": {"workflowName": "z", "specFile": "s.yaml"}}
            archive.writestr("WAR-INF/MANIFEST.json", json.dumps(manifest))
            archive.writestr("s.yaml", spec)

    async def story(world):
        pack(world.root, "models: {m: {url: m.mar}}\ndag: {m: []}")
        await world.flows.register_workflow(WorkflowRegistration("z.war"))
        assert await world.begin().start() == ()

        pack(world.root, "models: {m: {url: evil.mar}}\ndag: {m: []}")
        [problem] = await world.begin().start()
        assert problem.startswith("The workflow z cannot be restored: z.war is refused: Its sha256")
        assert world.plane.nodes == {}

        await world.flows.register_workflow(WorkflowRegistration("z.war"))  # as the message says
        assert await world.begin().start() == ()
        assert world.plane.wishes["z__m"][0].url == "evil.mar"

    in_world(story)


def test_a_workflow_that_cannot_be_restored_stays_wanted_and_says_why(in_world):
    async def story(world):
        await world.flows.register_workflow(WISH)
        flows = world.begin()
        world.plane.troubles["w__m"] = LoadFailed("gone.")
        [problem] = await flows.start()
        assert problem.startswith("The workflow w cannot be restored: Workflow w has failed")
        assert world.plane.nodes == {}
        assert [one.url for one in await flows.workflows()] == ["w.war"]
        with pytest.raises(WorkflowFailed, match="Register it again, or unregister it"):
            flows.predict("w", Request("1", [], []), print)
        with pytest.raises(WorkflowFailed, match="could not be restored"):
            await flows.describe_workflow("w")
        world.plane.troubles.clear()
        await flows.register_workflow(WISH)
        assert (await flows.describe_workflow("w")).batch_size == 1
        await flows.unregister_workflow("w")
        assert await world.begin().start() == ()

    in_world(story)


def test_a_damaged_file_is_moved_aside_and_the_one_before_is_used(in_world, caplog):
    async def story(world):
        await world.flows.register_workflow(WISH)
        await world.flows.register_workflow(WorkflowRegistration("w.war", "x"))
        (world.root / "state" / "workflows.json").write_bytes(b"{")
        flows = world.begin()
        await flows.start()
        assert [one.name for one in await flows.workflows()] == ["w"]
        assert (world.root / "state" / "workflows.damaged").is_file()

    in_world(story)
    assert "cannot be used" in caplog.text


def test_requests_run_and_those_that_do_not_end_in_time_are_told_when_their_workflow_goes(in_world):
    async def story(world):
        await world.flows.register_workflow(WISH)
        replies = []
        world.flows.predict("w", Request("1", [], [("body", "", b"x")]), replies.append)
        world.jobs[0].resolve(Answer(b"y"))
        world.jobs[1].resolve(Answer(b"z"))
        assert replies == [Answer(b"z")]

        world.flows.predict("w", Request("2", [], []), replies.append)
        await world.flows.unregister_workflow("w")
        assert replies[1].message == 'Workflow "w" is being unloaded.'
        assert not world.jobs[2].is_open
        assert world.plane.nodes == {}
        with pytest.raises(WorkflowNotFound, match="Workflow not found: w"):
            world.flows.predict("w", Request("3", [], []), print)
        with pytest.raises(WorkflowNotFound, match="Workflow not found: w"):
            await world.flows.unregister_workflow("w")

    in_world(story)


def test_a_request_whose_client_is_gone_holds_nothing_up(in_world):
    async def story(world):
        await world.flows.register_workflow(WISH)
        abandon = world.flows.predict("w", Request("1", [], []), print)
        abandon()
        assert not world.jobs[0].is_open
        world.jobs[0].resolve(HandlerFailed("late"))
        async with asyncio.timeout(5):
            await world.flows.unregister_workflow("w")

    in_world(story)
