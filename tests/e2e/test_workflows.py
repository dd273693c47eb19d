"""Workflows over real sockets: two branches, failures, life and death, restarts."""

from __future__ import annotations

import json
import os
import threading
import zipfile
from pathlib import Path

import psutil
import pytest

from marserve_archiver.cli import main as archiver

FUNCTIONS = Path(__file__).parents[1] / "fixtures" / "handlers" / "flow.py"
BRANCHES = """
models:
  timeout-ms: 20000
  left: {url: echo.mar}
  right: {url: echo.mar, max-workers: 2}
dag:
  pre: [left, right]
  left: [post]
  right: [post]
"""


class Flows:
    """A server, and the workflows that a test packs for it."""

    def __init__(self, server):
        self.server = server
        server.pack("echo", "echo.py")
        server.pack("bad", "broken_import.py")

    def pack(self, name, spec, folder=None):
        path = self.server.root / f"{name}.yaml"
        path.write_text(spec)
        argv = ["workflow", "--workflow-name", name, "--spec-file", str(path)]
        argv += ["--handler", str(FUNCTIONS), "-f"]
        assert archiver([*argv, "--export-path", str(folder or self.server.store)]) == 0

    def register(self, name, spec, status=200):
        self.pack(name, spec)
        reply = self.server.manage("POST", f"/workflows?url={name}.war")
        assert reply.status == status, reply
        return reply.json()

    def ask(self, name, body=b"x", **headers):
        return self.server.call("POST", "inference", f"/wfpredict/{name}", body, headers)

    def models(self):
        listed = self.server.manage("GET", "/models").json()["models"]
        return [model["modelName"] for model in listed]

    def names(self):
        listed = self.server.manage("GET", "/workflows").json()["workflows"]
        return [workflow["workflowName"] for workflow in listed]


@pytest.fixture
def flows(server):
    made = Flows(server)
    server.start()
    return made


@pytest.fixture(scope="module")
def shared(shared_server):
    made = Flows(shared_server)
    shared_server.start()
    made.register("warm", "dag: {pre: []}")  # what forks workers is there from now on
    shared_server.manage("DELETE", "/workflows/warm")
    return made


def test_a_request_takes_both_branches_and_a_workflow_goes_with_all_its_nodes(shared):
    server = shared.server
    before = {child.pid for child in server.children()}

    shared.register("two", BRANCHES)
    reply = shared.ask("two", b"hello", **{"X-Trace": "7"})

    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    document = reply.json()
    assert document["x-trace"] == "7"
    branches = {name: json.loads(text)["body"] for name, text in document["row"].items()}
    assert branches == {"left": "pre hello", "right": "pre hello"}
    assert shared.models() == ["two__left", "two__right"]
    assert len(server.pids("two__right")) == 2

    assert server.manage("DELETE", "/workflows/two").status == 200
    assert shared.ask("two").status == 404
    assert shared.models() == []
    assert server.manage("GET", "/models/two__pre").status == 404
    server.wait_until(lambda: {child.pid for child in server.children()} <= before)


def test_a_node_that_fails_is_named_with_its_cause_after_it_was_tried_again(shared, tmp_path):
    shared.register("sad", "models:\n  retry-attempts: 1\ndag:\n  flaky: []\n")
    calls = tmp_path / "calls"

    reply = shared.ask("sad", os.fsencode(calls))

    assert reply.status == 500
    assert reply.json()["type"] == "InternalServerException"
    assert reply.json()["message"].startswith("Error executing flaky: ")
    assert calls.read_text() == "xx"
    assert shared.ask("sad", os.fsencode(calls)).body == b"served at last"
    shared.server.manage("DELETE", "/workflows/sad")


def test_a_node_that_takes_too_long_is_given_up(shared, tmp_path):
    shared.register("late", "models:\n  retry-attempts: 0\n  timeout-ms: 300\ndag:\n  slow: []\n")
    gate = tmp_path / "gate"

    reply = shared.ask("late", os.fsencode(gate))

    assert reply.status == 500
    assert "Error executing slow: there was no answer within 300 ms" in reply.json()["message"]
    gate.unlink()
    shared.server.manage("DELETE", "/workflows/late")


@pytest.mark.parametrize(
    ("spec", "kind", "words"),
    [
        ("dag: {pre: [post], post: [pre]}", "InvalidDAGException", "form a cycle"),
        ("dag: {pre: [nobody]}", "InvalidDAGException", "'nobody'"),
        (
            "models: {a: {url: echo.mar}, b: {url: bad.mar}}\ndag: {pre: [a, b]}",
            "WorkflowException",
            "a_module_that_nobody_has",
        ),
        (
            "models: {a: {url: echo.mar}, b: {url: none.mar}}\ndag: {pre: [a, b]}",
            "WorkflowException",
            "Workflow Node wrong__b failed to register. Details: Model not found at: none.mar",
        ),
    ],
)
def test_a_workflow_that_cannot_be_is_refused_and_leaves_no_node(shared, spec, kind, words):
    server = shared.server
    before = {child.pid for child in server.children()}

    refused = shared.register("wrong", spec, 400 if kind == "InvalidDAGException" else 500)

    assert refused["type"] == kind
    assert words in refused["message"]
    assert (shared.models(), shared.names()) == ([], [])
    for node in ("pre", "a", "b"):
        assert server.manage("GET", f"/models/wrong__{node}").status == 404
    server.wait_until(lambda: {child.pid for child in server.children()} <= before)


def test_hostile_archives_are_refused_and_nothing_is_written(shared):
    store = shared.server.store
    with zipfile.ZipFile(store / "slip.war", "w") as archive:
        archive.writestr("../../slipped", "x")
    shared.pack("torn", "dag: {pre: []}")
    (store / "torn.war").write_bytes((store / "torn.war").read_bytes()[:-30])
    with zipfile.ZipFile(store / "elsewhere.war", "w") as archive:
        document = {"workflow": {"workflowName": "w", "specFile": "/etc/hostname"}}
        archive.writestr("WAR-INF/MANIFEST.json", json.dumps(document))

    for name in ("slip", "torn", "elsewhere"):
        reply = shared.server.manage("POST", f"/workflows?url={name}.war")
        assert (reply.status, reply.json()["type"]) == (400, "InvalidModelException"), reply
    assert list(shared.server.root.rglob("slipped")) == []
    assert shared.names() == []


def test_a_client_that_hangs_up_takes_its_nodes_work_along(shared, tmp_path):
    shared.register("left-alone", "models:\n  timeout-ms: 60000\ndag:\n  slow: [post]\n")
    gate, other = tmp_path / "gate", tmp_path / "other"
    waiting = []
    for path in (gate, other):  # the second one waits for the worker
        connection = shared.server.connect()
        connection.request("POST", "/wfpredict/left-alone", os.fsencode(path))
        waiting.append(connection)
        shared.server.wait_until(gate.exists)
    shared.server.wait_until(lambda: shared.server.pending("left-alone__slow") == 1)

    for connection in waiting:
        connection.close()
    shared.server.wait_until(lambda: shared.server.pending("left-alone__slow") == 0)
    gate.unlink()

    assert shared.server.manage("DELETE", "/workflows/left-alone").status == 200
    assert not other.exists()


def test_requests_that_were_accepted_finish_before_the_nodes_go(shared, crowd, tmp_path):
    shared.register("busy", "models:\n  timeout-ms: 60000\ndag:\n  slow: [post]\n")
    gate = tmp_path / "gate"
    clients = crowd(lambda _: shared.ask("busy", os.fsencode(gate)), 1)
    shared.server.wait_until(gate.exists)

    gone = threading.Thread(target=shared.server.manage, args=("DELETE", "/workflows/busy"))
    gone.start()
    shared.server.wait_until(lambda: shared.names() == [])
    assert shared.ask("busy").status == 404
    gate.unlink()
    gone.join(60)

    [reply] = clients.join()
    assert reply.json()["row"] == {"body": "slow"}
    assert shared.models() == []


def test_a_restart_brings_workflows_back_and_no_nodes_without_them(flows):
    server = flows.server
    flows.register("two", BRANCHES)
    flows.register("gone", "dag: {pre: []}")
    flows.register("single", "dag: {pre: []}")
    server.manage("DELETE", "/workflows/single")
    server.pack("other", "echo.py")
    server.manage("POST", "/models?url=other.mar&initial_workers=1")
    server.stop()
    (server.store / "gone.war").unlink()

    server.start()

    assert len(server.problems) == 1
    assert "The workflow gone cannot be restored: Workflow not found in" in server.problems[0]
    assert flows.names() == ["gone", "two"]
    assert flows.models() == ["other", "two__left", "two__right"]
    assert flows.ask("two", b"again").status == 200
    broken = flows.ask("gone")
    assert (broken.status, broken.json()["type"]) == (500, "WorkflowException")
    assert "gone.war" in broken.json()["message"]

    flows.register("gone", "dag: {pre: []}")  # the remedy
    assert flows.ask("gone", b"y").body == b"pre y"
    server.manage("DELETE", "/workflows/gone")
    server.manage("DELETE", "/workflows/two")
    server.stop()
    server.start()
    assert (flows.names(), flows.models()) == ([], ["other"])


def test_a_killed_server_leaves_no_half_registered_workflow(flows):
    server = flows.server
    server.pack("slow", "slow_load.py")
    flows.pack("half", "models: {a: {url: echo.mar}, b: {url: slow.mar}}\ndag: {a: [b]}")
    connection = server.connect("management")
    connection.request("POST", "/workflows?url=half.war")
    server.wait_until(lambda: flows.models() == ["half__a"])

    assert server.process is not None
    children = server.children()
    server.process.kill()
    server.wait()
    connection.close()
    psutil.wait_procs(children, timeout=30)
    server.start()

    assert (flows.names(), flows.models()) == ([], [])


def test_the_workflow_store_is_a_folder_of_its_own_if_there_is_one(server, tmp_path):
    flows = Flows(server)
    flows.pack("apart", "models: {a: {url: echo.mar}}\ndag: {pre: [a]}", tmp_path / "wf-store")
    server.start(workflow_store=tmp_path / "wf-store")

    assert server.manage("POST", "/workflows?url=apart.war").status == 200
    assert flows.ask("apart").json()["body"] == "pre x"
