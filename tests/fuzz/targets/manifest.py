"""F-ARC: any bytes are a manifest that says the same when it is written again, or a refusal."""

from marserve_archiver.errors import ManifestInvalid
from marserve_archiver.manifest import Manifest, dump, file_problems, parse
from marserve_archiver.workflow_manifest import dump_workflow, parse_workflow, workflow_problems

SEEDS = [
    dump(
        Manifest(
            model_name="m",
            handler="h.py:handle",
            model_file="m.py",
            other={"x": [1, None]},
            model_other={"y": {"z": "\u00e9"}},
        )
    ),
    b'{"model": {"modelName": "m", "modelVersion": 1.0}, "runtime": "python3"}',
    b'{"model": {"handler": "../../x"}, "runtime": "LSP"}',
    b'{"workflow": {"workflowName": "w", "specFile": "s.yaml", "handler": "h.py"}}',
    b'\xef\xbb\xbf{"model": {"modelName": "\\ud800"}}',
    b"[" * 3000,
    b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a": NaN, "a": 1}',
    b"",
]


def one_input(data: bytes) -> None:
    """Raises if anything but ManifestInvalid comes out, or a round trip changes what is said."""
    try:
        manifest = parse(data)
    except ManifestInvalid:
        pass
    else:
        for problem in file_problems(manifest, {"h.py", "m.py"}):
            assert str(problem)
        assert repr(parse(dump(manifest))) == repr(manifest)
    try:
        workflow = parse_workflow(data)
    except ManifestInvalid:
        return
    for problem in workflow_problems(workflow, {"s.yaml"}):
        assert str(problem)
    assert parse_workflow(dump_workflow(workflow)) == workflow
