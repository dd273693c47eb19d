import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve_archiver.errors import ManifestInvalid
from marserve_archiver.manifest import Manifest, dump, file_problems, parse

TORCHSERVE = {
    "createdOn": "31/12/2024 23:59:59",
    "runtime": "python3",
    "archiverVersion": "0.12.0",
    "model": {
        "modelName": "resnet",
        "serializedFile": "resnet.pth",
        "handler": "handler.py:run",
        "modelFile": "model.py",
        "modelVersion": "2.0",
        "requirementsFile": "requirements.txt",
        "configFile": "model-config.yaml",
    },
}
FULL = Manifest(
    model_name="resnet",
    model_version="2.0",
    handler="handler.py:run",
    model_file="model.py",
    serialized_file="resnet.pth",
    requirements_file="requirements.txt",
    config_file="model-config.yaml",
    runtime="python3",
    created_on="31/12/2024 23:59:59",
    archiver_version="0.12.0",
)


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


def test_a_manifest_by_torchserve_is_understood_whole():
    assert parse(encoded(TORCHSERVE)) == FULL


def test_a_manifest_is_written_with_torchserves_keys_and_indent():
    assert json.loads(dump(FULL)) == TORCHSERVE
    assert dump(FULL).decode().splitlines()[1] == '  "createdOn": "31/12/2024 23:59:59",'


def test_unknown_keys_are_kept_where_they_were():
    document = {
        "specificationVersion": "1.0",
        "runtime": "python",
        "model": {"modelName": "m", "modelVersion": "1", "extensions": {"a": [1, None]}},
        "licence": {"spdx": "MIT"},
    }
    assert json.loads(dump(parse(encoded(document)))) == document


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, Manifest()),
        ({"model": {}}, Manifest()),
        ({"model": {"modelName": "m"}}, Manifest(model_name="m")),
        ({"model": {"modelVersion": 1.0}}, Manifest()),
        ({"model": {"modelVersion": 3}}, Manifest(model_version="3")),
        ({"model": {"modelVersion": ""}}, Manifest()),
        ({"model": {"handler": None}}, Manifest()),
        ({"runtime": "LSP"}, Manifest(runtime="LSP")),
    ],
)
def test_what_is_missing_means_the_default(document, expected):
    assert parse(encoded(document)) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "bad-manifest"),
        (b"{", "bad-manifest"),
        (b"[]", "bad-manifest"),
        (b'"x"', "bad-manifest"),
        (b"\xff\xfe{}", "bad-manifest"),
        (b'{"model": null}', "bad-manifest"),
        (b'{"model": []}', "bad-manifest"),
        (b'{"model": {"handler": ["x"]}}', "bad-manifest"),
        (b'{"model": {"modelVersion": true}}', "bad-manifest"),
        (b'{"model": {}, "model": {}}', "bad-manifest"),
        (b"[" * 100_000, "bad-manifest"),
        (b'{"runtime": "java"}', "bad-runtime"),
        (b'{"x": "' + b"y" * 256 * 1024 + b'"}', "manifest-too-large"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(content, reason):
    with pytest.raises(ManifestInvalid) as caught:
        parse(content)
    assert caught.value.reason == reason


def test_a_byte_order_mark_does_no_harm():
    assert parse(b"\xef\xbb\xbf{}") == Manifest()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4))
def test_any_object_without_known_keys_survives_reading_and_writing(document):
    manifest = parse(encoded({"model": {}, "extra": document}))
    assert parse(dump(manifest)) == manifest
    assert manifest.other == {"extra": document}


@given(st.binary(max_size=60))
def test_any_bytes_are_a_manifest_or_a_manifest_error(content):
    with contextlib.suppress(ManifestInvalid):
        parse(content)


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (None, None),
        ("image_classifier", None),
        ("my_package.handler", None),
        ("handler.py", "handler.py"),
        ("handler.py:run", "handler.py"),
        ("sub/handler.py:run", "sub/handler.py"),
    ],
)
def test_only_a_python_file_is_a_handler_file(handler, expected):
    assert Manifest(handler=handler).handler_file() == expected


def test_every_missing_file_is_named_with_its_key():
    present = {"model.py", "handler.py", "model-config.yaml"}
    assert [str(problem) for problem in file_problems(FULL, present)] == [
        "The manifest names serializedFile 'resnet.pth', which is not in the archive.",
        "The manifest names requirementsFile 'requirements.txt', which is not in the archive.",
    ]


def test_a_manifest_may_not_name_a_file_outside_the_archive():
    problems = file_problems(Manifest(serialized_file="../secret"), {"../secret"})
    assert [problem.reason for problem in problems] == ["bad-manifest"]
