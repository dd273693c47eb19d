"""The API's own description says what is served."""

import re

from marserve.protocols.management_api import OPERATIONS, api_description


def test_the_description_is_an_openapi_document_of_this_release():
    document = api_description("1.2.3")
    assert document["openapi"] == "3.0.1"
    assert document["info"]["version"] == "1.2.3"


def test_every_path_of_every_operation_is_described_once():
    document = api_description("1")
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert described == {(o.method, path) for o in OPERATIONS for path in o.paths}
    ids = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(ids) == len(set(ids))


def test_every_name_in_a_path_is_a_required_parameter_of_it():
    for path, methods in api_description("1")["paths"].items():
        for operation in methods.values():
            in_path = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
            assert in_path == re.findall(r"{(\w+)}", path)
            assert all(p["required"] for p in operation["parameters"] if p["in"] == "path")


def test_every_status_that_an_operation_lists_has_words():
    for methods in api_description("1")["paths"].values():
        for operation in methods.values():
            assert all(answer["description"] for answer in operation["responses"].values())
