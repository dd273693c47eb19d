"""A workflow's graph: one start, no cycle; and what is wrong with any other, by name."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.errors import WorkflowInvalid
from marserve.pipelines.dag import build


def test_a_graph_knows_parents_successors_start_and_leaves():
    dag = build({"pre": ["a", "b"], "a": ["post"], "b": ["post"]})

    assert dag.nodes == ("pre", "a", "b", "post")
    assert dag.start == "pre"
    assert dag.leaves == ("post",)
    assert dag.successors == {"pre": ("a", "b"), "a": ("post",), "b": ("post",), "post": ()}
    assert dag.parents == {"pre": (), "a": ("pre",), "b": ("pre",), "post": ("a", "b")}


def test_a_node_may_be_alone():
    dag = build({"only": []})
    assert (dag.start, dag.leaves) == ("only", ("only",))


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ({"a": ["a"]}, "Self loop exception: the node 'a' comes after itself."),
        ({"a": ["b", "b"]}, "loop exception: 'a' names 'b' more than once."),
        ({}, "DAG should have only one start node, and this one has no node at all."),
        (
            {"a": ["c"], "b": ["c"]},
            "DAG should have only one start node, and this one has 2: 'a', 'b'.",
        ),
        (
            {"a": ["b"], "b": ["a"]},
            "DAG should have only one start node, and this one has none: "
            "the nodes 'b' -> 'a' -> 'b' form a cycle.",
        ),
        (
            {"s": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]},
            "Not a valid DAG: the nodes 'b' -> 'c' -> 'a' -> 'b' form a cycle.",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_with_torchserves_words_and_the_nodes(edges, message):
    with pytest.raises(WorkflowInvalid) as caught:
        build(edges)
    assert str(caught.value) == message


_NAMES = "abcdef"


@given(st.dictionaries(st.sampled_from(_NAMES), st.lists(st.sampled_from(_NAMES), max_size=4)))
def test_any_edges_give_a_graph_that_can_be_run_or_a_cycle_that_is_one(edges):
    try:
        dag = build(edges)
    except WorkflowInvalid as error:
        found = re.search(r"the nodes (.+) form a cycle", str(error))
        if found:
            walk = [name.strip("'") for name in found[1].split(" -> ")]
            assert walk[0] == walk[-1]
            assert all(b in edges[a] for a, b in pairwise(walk))
        return
    done = []
    while len(done) < len(dag.nodes):
        ready = [n for n in dag.nodes if n not in done and set(dag.parents[n]) <= set(done)]
        assert ready
        done += ready
    assert {(a, b) for a in edges for b in edges[a]} == {
        (a, b) for a in dag.nodes for b in dag.successors[a]
    }
