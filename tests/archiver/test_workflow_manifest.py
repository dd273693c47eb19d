"""The manifest of a workflow archive: TorchServe's keys, and nothing that cannot be used."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve_archiver.errors import ManifestInvalid
from marserve_archiver.workflow_manifest import (
    WorkflowManifest,
    dump_workflow,
    parse_workflow,
    workflow_problems,
)

_TEXTS = st.none() | st.text(min_size=1)


def test_it_is_written_as_torchserve_writes_it():
    manifest = WorkflowManifest("flow", "flow.yaml", "flow.py", "01/01/2024 00:00:00", "0.2.15")

    assert json.loads(dump_workflow(manifest)) == {
        "createdOn": "01/01/2024 00:00:00",
        "archiverVersion": "0.2.15",
        "workflow": {"workflowName": "flow", "specFile": "flow.yaml", "handler": "flow.py"},
    }


@given(st.builds(WorkflowManifest, _TEXTS, _TEXTS, _TEXTS, _TEXTS, _TEXTS))
def test_what_is_written_is_read_again(manifest):
    assert parse_workflow(dump_workflow(manifest)) == manifest


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_a_manifest_or_a_refusal(content):
    with suppress(ManifestInvalid):
        assert isinstance(parse_workflow(content), WorkflowManifest)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "The manifest is not valid JSON"),
        (b"[]", "The manifest must be a JSON object"),
        (b'{"workflow": []}', 'The manifest\'s "workflow" must be a JSON object'),
        (b'{"workflow": {"specFile": []}}', "The manifest's specFile must be a string"),
        (b" " * 300_000, "larger than"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(content, message):
    with pytest.raises(ManifestInvalid, match=message):
        parse_workflow(content)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (WorkflowManifest("w"), "names no specFile"),
        (WorkflowManifest("w", "spec.yaml", "absent.py"), "names handler 'absent.py'"),
        (WorkflowManifest("w", "absent.yaml"), "names specFile 'absent.yaml'"),
        (WorkflowManifest("w", "../spec.yaml"), "specFile is refused"),
        (WorkflowManifest("w", "spec.yaml", "/h.py"), "handler is refused"),
    ],
)
def test_files_that_are_not_there_are_told(manifest, message):
    [problem] = workflow_problems(manifest, {"spec.yaml", "h.py"})
    assert message in str(problem)


def test_a_workflow_of_models_needs_no_handler():
    assert list(workflow_problems(WorkflowManifest("w", "spec.yaml"), {"spec.yaml"})) == []
