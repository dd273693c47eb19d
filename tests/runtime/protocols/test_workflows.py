"""Workflows on the management port are asked for and told of in TorchServe's words."""

from dataclasses import replace

import pytest

from marserve.errors import InvalidInput
from marserve.protocols import workflows as wire
from marserve.protocols.management import Page
from marserve.protocols.workflows import WorkflowDescription, WorkflowRegistration

FLOW = WorkflowDescription(
    name="flow",
    url="flow.war",
    min_workers=1,
    max_workers=2,
    batch_size=4,
    max_batch_delay_ms=50,
    dag={"pre": ("nodeA", "nodeB"), "nodeA": ("post",), "nodeB": ("post",)},
)


@pytest.mark.parametrize(
    ("given", "wish"),
    [
        ({"url": "a.war"}, WorkflowRegistration("a.war")),
        (
            {
                "url": "a.war",
                "workflow_name": "a",
                "response_timeout": "7",
                "startup_timeout": 8,
                "s3_sse_kms": "true",
            },
            WorkflowRegistration("a.war", "a", 7, 8, True),
        ),
        ({"url": "a.war", "workflow_name": ""}, WorkflowRegistration("a.war")),
    ],
)
def test_a_registration_needs_only_a_url(given, wish):
    assert wire.registration(given) == wish


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Parameter url is required."),
        ({"url": ""}, "Parameter url is required."),
        ({"url": "a", "response_timeout": "x"}, "Parameter response_timeout must be a whole"),
        ({"url": "a", "startup_timeout": 0}, "Parameter startup_timeout must be at least 1"),
    ],
)
def test_a_registration_that_makes_no_sense_is_refused_by_name(given, message):
    with pytest.raises(InvalidInput, match=message):
        wire.registration(given)


def test_outcomes_are_told_in_torchserves_words():
    assert wire.registered_answer("x") == (
        200,
        {"status": "Workflow x has been registered and scaled successfully."},
    )
    assert wire.unregistered_answer("x") == (200, {"status": 'Workflow "x" unregistered'})
    assert wire.already_registered("x") == "Workflow x is already registered."
    assert wire.not_registered("x") == "Workflow not found: x"
    assert wire.not_in_store("x.war") == "Workflow not found in workflow store: x.war"
    assert wire.NO_STORE == "Workflow store has not been configured."
    assert wire.not_started("x", {"x__a": "No.", "x__b": "Nor this."}) == (
        "Workflow x has failed to register. Failures: "
        "[Workflow Node x__a failed to register. Details: No., "
        "Workflow Node x__b failed to register. Details: Nor this.]"
    )


@pytest.mark.parametrize(
    ("start", "limit", "names", "token"),
    [(0, 2, "ab", "2"), (2, 2, "c", None), (0, 3, "abc", "3"), (0, 0, "", "0"), (9, 1, "", None)],
)
def test_a_list_is_paged_as_that_of_the_models(start, limit, names, token):
    flows = [replace(FLOW, name=name, url=f"{name}.war") for name in "abc"]
    rows = [{"workflowName": name, "workflowUrl": f"{name}.war"} for name in names]
    expected = {"workflows": rows} if token is None else {"nextPageToken": token, "workflows": rows}
    status, document = wire.list_answer(flows, Page(start, limit))
    assert (status, list(document.items())) == (200, list(expected.items()))


def test_a_description_shows_the_graph_as_a_text():
    assert wire.describe_answer(FLOW) == (
        200,
        [
            {
                "workflowName": "flow",
                "workflowUrl": "flow.war",
                "minWorkers": 1,
                "maxWorkers": 2,
                "batchSize": 4,
                "maxBatchDelay": 50,
                "workflowDag": "{pre=[nodeA, nodeB], nodeA=[post], nodeB=[post]}",
            }
        ],
    )
    assert wire.describe_answer(replace(FLOW, dag={}))[1][0]["workflowDag"] == "{}"
