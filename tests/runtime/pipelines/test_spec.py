"""The specification of a workflow: defaults, overrides, functions, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.errors import WorkflowInvalid
from marserve.pipelines.spec import MAX_NODES, NodeSettings, parse


def test_defaults_hold_for_the_nodes_below_them():
    spec = parse(
        b"""
models:
  early: {url: e.mar}
  max-workers: 3
  batch-size: 4
  max-batch-delay: 7
  retry-attempts: 0
  timeout-ms: 90
  late: {url: l.mar, batch-size: 8, note: for people}
dag:
  early: [late, work]
""",
        {"work"},
    )
    nodes = spec.nodes
    assert list(nodes) == ["early", "late", "work"]
    assert nodes["early"].settings == NodeSettings()
    assert nodes["late"].settings == NodeSettings(1, 3, 8, 7, 0, 90)
    assert nodes["work"].settings == NodeSettings(1, 1, 1, 0, 0, 90)
    assert [node.url for node in nodes.values()] == ["e.mar", "l.mar", None]
    assert spec.defaults == NodeSettings(1, 3, 4, 7, 0, 90)
    assert spec.edges == {"early": ("late", "work")}


def test_models_that_the_graph_does_not_name_are_no_nodes():
    assert list(parse(b"models: {x: {url: x.mar}}\ndag: {work: }", None).nodes) == ["work"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Failed to parse yaml: "),
        ("!!python/object/apply:os.system ['true']", "Failed to parse yaml: "),
        ("[]", "must have the keys models and dag"),
        ("dag: []", "dag must be a mapping, not []"),
        ("models: 3", "models must be a mapping, not 3"),
        ("models: {a: 3}", "'a' under models is neither a setting (min-workers, "),
        ("models: {a: {}}", "The model 'a' has no url"),
        ("models: {a: {url: [x]}}", "The model 'a' has no url"),
        ("models: {a: {url: x, batch-size: 0}}", "batch-size of the model 'a' is 0; it must be"),
        ("models: {timeout-ms: yes}", "timeout-ms of models is True"),
        ("models: {retry-attempts: 101}", "from 0 to 100"),
        ("models: {min-workers: 9" + "9" * 5000 + "}", "Failed to parse yaml"),
        ("dag: {a: [1]}", "A node under dag is called 1; a name is text"),
        ("dag: {yes: [a]}", "A node under dag is called True"),
        ("dag: {a: b}", "what comes after 'a' must be a list, not 'b'"),
        ("dag: {a: [b], b: [a]}", "form a cycle"),
        ("dag: {a: [nobody]}", "the node 'nobody' is neither under models nor a function"),
        ("dag: {a: &x [*x]}", "A node under dag is called [[["),
    ],
)
def test_what_is_no_specification_is_refused_with_the_place(text, message):
    with pytest.raises(WorkflowInvalid) as caught:
        parse(text.encode(), {"a", "b"})
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "edges",
    [
        {"a": [f"n{i}" for i in range(MAX_NODES + 1)]},
        {f"n{i}": [f"n{i + 1}"] for i in range(MAX_NODES)},
        {f"n{i}": ["x"] for i in range(3000)},
    ],
)
def test_too_many_nodes_are_refused_before_anything_is_done_for_them(edges):
    text = "dag:\n" + "".join(f" {a}: [{','.join(then)}]\n" for a, then in edges.items())
    with pytest.raises(WorkflowInvalid, match="more than 100 nodes"):
        parse(text.encode(), None)


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_any_bytes_are_a_specification_or_a_refusal(text):
    with pytest.raises(WorkflowInvalid):  # that these few make a graph is out of the question
        parse(text, set())
