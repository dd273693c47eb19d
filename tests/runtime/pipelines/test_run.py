"""One request through a graph: order, inputs, retries, deadlines, and the one end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.errors import HandlerFailed, QueueFull
from marserve.pipelines.dag import build
from marserve.pipelines.run import Plan, Run
from marserve.pipelines.spec import Node, NodeSettings, Specification
from marserve.request import Answer, Job, Request

REQUEST = Request("id", [("X", "y")], [("p", "text/plain", b"in")])
TWO = {"pre": ["a", "b"], "a": ["post"], "b": ["post"]}


class Timer:
    def __init__(self, delay_s, callback):
        self.delay_s, self.callback, self.is_cancelled = delay_s, callback, False

    def cancel(self):
        self.is_cancelled = True

    def fire(self):
        assert not self.is_cancelled
        self.is_cancelled = True
        self.callback()


class Floor:
    """Models that answer when they are told to, and a clock that stands still."""

    def __init__(self, edges, **settings):
        dag = build(edges)
        one = NodeSettings(**{"retry_attempts": 0, **settings})
        nodes = {name: Node(name, None, one) for name in dag.nodes}
        plan = Plan(Specification(one, nodes, dag, dag.successors), {n: f"w__{n}" for n in nodes})
        self.given = []
        self.jobs = {}
        self.timers = []
        self.refusal = None
        self.answers_at_once = False
        self.replies = []
        self.run = Run(plan, REQUEST, self.infer, self.call_later, self.on_end)

    def infer(self, name, version, request, reply_to):
        assert version is None
        node = name.removeprefix("w__")
        self.given.append(node)
        if self.refusal is not None:
            raise self.refusal
        job = self.jobs[node] = Job(request, 0.0, reply_to)
        if self.answers_at_once:
            job.resolve(Answer(node.encode()))
        return job

    def call_later(self, delay_s, callback):
        self.timers.append(Timer(delay_s, callback))
        return self.timers[-1]

    def on_end(self, run, reply):
        assert run is self.run
        self.replies.append(reply)

    def answer(self, node, body=None):
        self.jobs[node].resolve(Answer(node.encode() if body is None else body))

    def waiting(self):
        return [timer for timer in self.timers if not timer.is_cancelled]

    def pass_time(self, delay_s):
        for timer in self.waiting():
            if timer.delay_s == delay_s:
                timer.fire()


def started(edges=TWO, **settings):
    floor = Floor(edges, **settings)
    floor.run.start()
    return floor


def test_each_node_gets_what_its_parents_answered_and_the_headers_of_the_client():
    floor = started()
    assert floor.jobs["pre"].request == REQUEST
    floor.answer("pre", b"1")
    assert floor.given == ["pre", "a", "b"]
    assert floor.jobs["a"].request == Request("id", [("X", "y")], [("body", "", b"1")])
    floor.answer("b", b"2")
    assert floor.given == ["pre", "a", "b"]
    floor.answer("a", b"3")
    assert floor.jobs["post"].request.parts == [("a", "", b"3"), ("b", "", b"2")]
    floor.answer("post", b"end")
    assert floor.replies == [Answer(b"end")]
    assert floor.waiting() == []


@st.composite
def graphs(draw):
    """Edges of a graph with one start: every later node comes after some earlier ones."""
    count = draw(st.integers(1, 8))
    edges = {"0": []}
    for i in range(1, count):
        before = draw(st.sets(st.integers(0, i - 1), min_size=1, max_size=3))
        for parent in before:
            edges.setdefault(str(parent), []).append(str(i))
    return edges


@given(graphs(), st.randoms(use_true_random=False), st.booleans())
def test_any_graph_runs_each_node_once_after_all_its_parents(edges, random, at_once):
    floor = Floor(edges)
    floor.answers_at_once = at_once
    dag = build(edges)
    answered = set()
    floor.run.start()
    while not floor.replies:
        open_nodes = sorted(node for node in floor.jobs if node not in answered)
        for node in open_nodes:
            assert set(dag.parents[node]) <= answered
        node = random.choice(open_nodes)
        answered.add(node)
        floor.answer(node)
    assert sorted(floor.given) == sorted(dag.nodes)
    assert [type(reply) for reply in floor.replies] == [Answer]
    assert floor.waiting() == []


def test_a_node_that_fails_is_tried_again_as_often_as_it_may():
    floor = started({"only": []}, retry_attempts=2)
    for _ in range(3):
        assert floor.replies == []
        floor.jobs["only"].resolve(HandlerFailed("no"))
        floor.pass_time(0.0)
    [error] = floor.replies
    assert (error.message, error.status) == ("Error executing only: no", 500)
    assert floor.given == ["only"] * 3


def test_a_second_attempt_may_succeed_and_bears_a_name_of_its_own():
    floor = started({"only": []}, retry_attempts=1)
    floor.jobs["only"].resolve(HandlerFailed("no"))
    floor.pass_time(0.0)
    assert floor.jobs["only"].request.id != "id"
    floor.answer("only")
    assert floor.replies == [Answer(b"only")]


def test_a_node_that_is_refused_is_tried_again_and_then_told():
    floor = Floor({"only": []}, retry_attempts=1)
    floor.refusal = QueueFull("w__only", 1, 1)
    floor.run.start()
    floor.pass_time(0.0)
    [error] = floor.replies
    assert error.message.startswith('Error executing only: Model "w__only" has 1 requests')
    assert floor.given == ["only", "only"]
    assert floor.waiting() == []


def test_each_attempt_has_its_own_time_and_its_late_answer_counts_for_nothing():
    floor = started({"only": []}, retry_attempts=1, timeout_ms=250)
    first = floor.jobs["only"]
    floor.pass_time(0.25)
    assert not first.is_open
    floor.pass_time(0.0)
    assert floor.jobs["only"] is not first
    floor.pass_time(0.25)
    [error] = floor.replies
    assert error.message == (
        "Error executing only: there was no answer within 250 ms (timeout-ms)."
    )


def test_a_node_that_fails_ends_what_runs_beside_it():
    floor = started()
    floor.answer("pre")
    floor.jobs["a"].resolve(HandlerFailed("no"))
    assert not floor.jobs["b"].is_open
    assert len(floor.replies) == 1
    assert floor.waiting() == []


def test_an_abandoned_run_abandons_its_jobs_and_says_nothing():
    floor = started()
    floor.answer("pre")
    floor.run.abandon()
    assert not floor.jobs["a"].is_open
    assert not floor.jobs["b"].is_open
    assert (floor.replies, floor.waiting()) == ([], [])


@pytest.mark.parametrize("attempts", [0, 1])
def test_an_abandoned_run_begins_nothing_any_more(attempts):
    floor = started({"only": []}, retry_attempts=attempts)
    job = floor.jobs["only"]
    floor.run.abandon()
    job.resolve(HandlerFailed("no"))
    assert (floor.given, floor.replies) == (["only"], [])


def test_results_that_cannot_be_joined_are_the_error():
    floor = started({"s": ["a", "b"]})
    floor.answer("s")
    floor.answer("a", b"\xff")
    floor.answer("b", b"1")
    [error] = floor.replies
    assert error.message.startswith("Error executing a: ")
