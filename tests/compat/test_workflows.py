"""Workflows, as section 10 of TorchServe's behaviour has them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from contract import ANY, Case, Differs, Subset, error, story, table

HANDLER = (Path(__file__).parents[1] / "fixtures" / "handlers" / "flow.py").read_text()
TWO = """
models:
  min-workers: 1
  max-workers: 1
  batch-size: 2
  max-batch-delay: 10
  retry-attempts: 1
  timeout-ms: 9000
  a: {url: echo.mar}
  b: {url: echo.mar, batch-size: 4}
dag:
  pre: [a, b]
  a: [post]
  b: [post]
"""
MODEL = "models:\n  a: {url: echo.mar}\n"
GRAPHS = {
    "own": "  pre: [pre]\n",
    "circle": "  pre: [post]\n  post: [pre]\n",
    "inner": "  text: [pre]\n  pre: [post]\n  post: [left]\n  left: [pre]\n",
    "starts": "  pre: [text]\n  post: [text]\n",
    "twice": "  pre: [post, post]\n",
    "empty": "  {}\n",
    "unknown": "  pre: [nobody]\n",
    "scalar": "  pre: post\n",
    "single": "  pre: []\n",
    "leaves": "  pre: [left, right]\n",
    "words": "  pre: [left, text]\n",
    "kinds": "  left: [types]\n",
    "teapots": "  teapot: [a]\n",
    "broken": "  a: [breaks]\n",
}
SPECS = {
    "two": TWO,
    "absent": "models:\n  a: {url: absent.mar}\ndag:\n  pre: [a]\n",
    "sour": "models:\n  a: {url: bad.mar}\ndag:\n  pre: [a]\n",
    "noyaml": "models: [\n",
    "letters": "models:\n  min-workers: x\n  a: {url: echo.mar}\ndag:\n  a: [pre]\n",
    **{name: f"{MODEL}dag:\n{graph}" for name, graph in GRAPHS.items()},
}
KINDER = "TorchServe says 500 as for an error of its own"
SAYS_WHICH = "the same, and which nodes are meant"


def _war(target, name, spec, **manifest):
    workflow = {"workflowName": name, "specFile": "spec.yaml", "handler": "flow.py", **manifest}
    document = {"createdOn": "01/01/2024 00:00:00", "archiverVersion": "0.2.15"}
    document["workflow"] = {key: value for key, value in workflow.items() if value is not None}
    members = {"WAR-INF/MANIFEST.json": json.dumps(document), "spec.yaml": spec}
    target.archive(f"{name}.war", {**members, "flow.py": HANDLER})


@pytest.fixture(scope="module")
def served(target):
    target.pack("echo", "echo.py")
    target.pack("bad", "broken_import.py")
    for name, spec in SPECS.items():
        _war(target, name, spec)
    target.archive("bare.war", {"x": "y"})
    target.archive("torn.war", {"WAR-INF/MANIFEST.json": "{"})
    target.archive("slip.war", {"../x": "y", "WAR-INF/MANIFEST.json": "{}"})
    (target.store / "nozip.war").write_bytes(b"no archive")
    target.start()
    return _registered(target, "two", "single")


@pytest.fixture(scope="module")
def flows(served):
    return _registered(served, "leaves", "words", "kinds", "teapots", "broken")


def _registered(target, *names):
    for name in names:
        assert target.call(f"POST /workflows?url={name}.war").status == 200
    return target


def managed(request, status, body, **more):
    return Case(request, status, body, port="management", **more)


def said(text):
    return {"status": text}


def invalid(words, more):
    """The message begins with TorchServe's words; ours goes on."""
    return error(400, "InvalidDAGException", re.compile(re.escape(words) + ".*" + more + ".*"))


def refused(name, words, more):
    return managed(
        f"POST /workflows?url={name}.war",
        400,
        invalid(words, more),
        differs=Differs(SAYS_WHICH, body=error(400, "InvalidDAGException", words)),
    )


def differently(name, status, body, theirs):
    differs = Differs(KINDER, status=500, body=Subset({"type": theirs}))
    return managed(f"POST /workflows?url={name}.war", status, body, differs=differs)


# in a JSON body, what is left out is 0 seconds to TorchServe
TIMEOUTS = {"response_timeout": 60, "startup_timeout": 60}
NOBODY = error(404, "WorkflowNotFoundException", "Workflow not found: nobody")
NO_STORE = "Workflow not found in workflow store: none.war"
NO_FILE = error(404, "WorkflowNotFoundException", NO_STORE)
LISTED = [
    {"workflowName": name, "workflowUrl": f"{name}.war"}
    for name in ("broken", "kinds", "leaves", "single", "teapots", "two", "words")
]


@table(
    story(
        "a workflow comes and goes",
        managed(
            "POST /workflows?url=two.war&workflow_name=again",
            200,
            said("Workflow again has been registered and scaled successfully."),
            headers={"content-type": "application/json"},
        ),
        managed("GET /models/again__a", 200, [Subset({"modelName": "again__a", "batchSize": 2})]),
        managed("GET /models/again__b", 200, [Subset({"batchSize": 4, "maxBatchDelay": 10})]),
        managed("GET /models/again__pre", 200, [Subset({"batchSize": 1, "maxBatchDelay": 0})]),
        managed("DELETE /workflows/again", 200, said('Workflow "again" unregistered')),
        managed("GET /models/again__a", 404, ANY),
        managed("GET /models/again__pre", 404, ANY),
        managed("GET /workflows/again", 404, ANY),
        Case("POST /wfpredict/again", 404, ANY),
    ),
    managed(
        "POST /workflows",
        200,
        said("Workflow by-body has been registered and scaled successfully."),
        sent={"url": "single.war", "workflow_name": "by-body", **TIMEOUTS},
        after=["DELETE /workflows/by-body"],
    ),
    managed(
        "POST /workflows?url=two.war",
        409,
        error(409, "ConflictStatusException", "Workflow two is already registered."),
    ),
    managed(
        "POST /workflows", 400, error(400, "BadRequestException", "Parameter url is required.")
    ),
    managed("POST /workflows?url=none.war", 404, NO_FILE),
    managed(
        "POST /workflows?url=../two.war",
        404,
        error(404, "WorkflowNotFoundException", "Relative path is not allowed in url: ../two.war"),
    ),
    refused("own", "Self loop exception", "'pre'"),
    refused("circle", "DAG should have only one start node", "'p[re|ost]+' -> .* form a cycle"),
    refused("inner", "Not a valid DAG", "form a cycle"),
    refused("starts", "DAG should have only one start node", "has 2: 'pre', 'post'"),
    refused("twice", "loop exception", "'pre' names 'post' more than once"),
    refused("empty", "DAG should have only one start node", "no node"),
    differently("unknown", 400, invalid("Not a valid DAG", "'nobody'"), "WorkflowException"),
    differently("scalar", 400, invalid("Not a valid DAG", "'pre' must be a list"), ANY),
    differently("letters", 400, invalid("min-workers of models", "'x'"), "ClassCastException"),
    differently("noyaml", 400, invalid("Failed to parse yaml", ""), "InvalidWorkflowException"),
    differently("bare", 400, Subset({"type": "InvalidModelException"}), "InvalidWorkflowException"),
    differently("torn", 400, Subset({"type": "InvalidModelException"}), "InvalidWorkflowException"),
    differently(
        "nozip", 400, Subset({"type": "InvalidModelException"}), "InvalidWorkflowException"
    ),
    differently("slip", 400, Subset({"type": "InvalidModelException"}), "IOException"),
    managed(
        "POST /workflows?url=absent.war",
        500,
        error(
            500,
            "WorkflowException",
            "Workflow absent has failed to register. Failures: [Workflow Node absent__a failed to "
            "register. Details: Model not found at: absent.mar]",
        ),
    ),
    managed(
        "POST /workflows?url=sour.war",
        500,
        error(
            500,
            "WorkflowException",
            re.compile(
                r"Workflow sour has failed to register. Failures: \[.*Failed to start workers for "
                r"model sour__a version: 1.0.*\]"
            ),
        ),
    ),
)
def test_registrations_are_answered_as_by_torchserve(served, case):
    served.check(case)


@table(
    managed("GET /workflows", 200, {"workflows": LISTED}),
    managed("GET /workflows?limit=1", 200, {"nextPageToken": "1", "workflows": LISTED[:1]}),
    managed("GET /workflows?next_page_token=6", 200, {"workflows": LISTED[6:]}),
    managed(
        "GET /workflows/two",
        200,
        [
            {
                "workflowName": "two",
                "workflowUrl": "two.war",
                "minWorkers": 1,
                "maxWorkers": 1,
                "batchSize": 2,
                "maxBatchDelay": 10,
                "workflowDag": "{pre=[a, b], a=[post], b=[post]}",
            }
        ],
    ),
    managed("GET /workflows/nobody", 404, NOBODY),
    managed("DELETE /workflows/nobody", 404, NOBODY),
    managed("PUT /workflows/two", 405, ANY),
    managed(
        "GET /models",
        200,
        {
            "models": [
                {"modelName": name, "modelUrl": "echo.mar"}
                for name in ("broken__a", "teapots__a", "two__a", "two__b")
            ]
        },
        title="the list of models has nodes that are models, not those that are functions",
    ),
    Case("POST /predictions/two__pre", 200, "pre x", sent="x"),
    Case("POST /predictions/two__a", 200, Subset({"body": "x"}), sent="x"),
)
def test_workflows_and_their_nodes_are_shown(flows, case):
    flows.check(case)


# TorchServe's order is that of completion
LEFT = re.escape('"left": {\n    "left": 1\n  }')
RIGHT = re.escape('"right": {\n    "right": [\n      1,\n      2.5,\n      "é"\n    ]\n  }')
JSON = {"content-type": "application/json"}


@table(
    Case("POST /wfpredict/single", 200, "pre x", sent="x", headers=JSON, phrase="OK"),
    Case("POST /WFPredict/single", 200, "pre x", sent="x"),
    Case("PUT /wfpredict/single?q=1", 200, "pre x", sent="x"),
    Case("GET /wfpredict/single", 200, "pre "),
    Case("POST /wfpredict/single?q=1", 200, "pre {'x': 1}", sent={"x": 1}),
    Case("POST /wfpredict/kinds", 200, {"body": "bytearray"}, sent="x", headers=JSON),
    Case(
        "POST /wfpredict/two",
        200,
        {"row": {"a": re.compile('(?s).*"body": "pre x".*'), "b": ANY}, "x-trace": "7"},
        sent="x",
        sent_headers={"X-Trace": "7"},
        title="several parents: one part each; the client's headers reach every node",
    ),
    Case(
        "POST /wfpredict/leaves",
        200,
        re.compile(rf"\{{\n  ({LEFT},\n  {RIGHT}|{RIGHT},\n  {LEFT})\n\}}\n"),
        sent="x",
        headers=JSON,
    ),
    Case(
        "POST /wfpredict/words",
        200,
        {"left": {"left": 1}, "text": "no JSON"},
        sent="x",
        differs=Differs("a leaf that is no JSON object stands there as it is", status=500),
    ),
    Case(
        "POST /wfpredict/teapots",
        200,
        Subset({"body": "I am one"}),
        sent="x",
        title="a status that a handler sets does not end the workflow",
    ),
    Case(
        "POST /wfpredict/broken",
        500,
        error(500, "InternalServerException", re.compile("Error executing breaks: .+")),
        sent="x",
        differs=Differs(
            "the same, and why",
            body=error(500, "InternalServerException", "Error executing breaks"),
        ),
    ),
    Case("POST /wfpredict/nobody", 404, NOBODY),
)
def test_requests_travel_through_workflows(flows, case):
    flows.check(case)
