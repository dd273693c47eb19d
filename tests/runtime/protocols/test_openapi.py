"""The descriptions of the APIs are OpenAPI 3.0 documents, and say what is served."""

import json
import re

import pytest
from openapi_spec_validator import OpenAPIV30SpecValidator

from marserve.errors import Kind
from marserve.protocols import inference_api, management_api, openapi
from marserve.protocols.faults import ROWS
from marserve.servers import routes

DOCUMENTS = {
    "inference": openapi.inference_api("1.2.3"),
    "inference with OIP": openapi.inference_api("1.2.3", open_inference=True),
    "management": openapi.management_api("1.2.3"),
    "management with tokens": openapi.management_api("1.2.3", tokens=True),
    "metrics": openapi.metrics_api("1.2.3"),
    "a model's inference": openapi.model_inference_api("resnet-50"),
    "a model's management": openapi.model_management_api("resnet-50", "1.2.3"),
}


def operations(document):
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


@pytest.fixture(params=DOCUMENTS)
def document(request):
    return json.loads(json.dumps(DOCUMENTS[request.param]))


def test_a_description_is_a_valid_openapi_document(document):
    assert document["openapi"] == "3.0.1"
    assert list(OpenAPIV30SpecValidator(document).iter_errors()) == []


def test_no_operation_is_named_twice(document):
    ids = [operation["operationId"] for operation in operations(document).values()]
    assert len(ids) == len(set(ids))


def test_every_name_in_a_path_is_a_required_parameter_of_it(document):
    for (_, path), operation in operations(document).items():
        named = [one for one in operation["parameters"] if one["in"] == "path"]
        assert [one["name"] for one in named] == re.findall(r"{(\w+)}", path)
        assert all(one["required"] for one in named)


def test_every_failure_has_torchserves_form(document):
    error = {"$ref": "#/components/schemas/Error"}
    for operation in operations(document).values():
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert answer["content"]["application/json"]["schema"] == error


def test_a_default_has_the_type_of_its_parameter(document):
    types = {"integer": int, "boolean": bool, "string": str, "array": list}
    for operation in operations(document).values():
        for parameter in operation["parameters"]:
            schema = parameter["schema"]
            if "default" in schema:
                assert type(schema["default"]) is types[schema["type"]]


@pytest.mark.parametrize("name", ["inference", "management", "metrics"])
def test_the_release_is_named(name):
    assert DOCUMENTS[name]["info"]["version"] == "1.2.3"


def served(routes, method):
    """The templates of the inference port's own routes, in the words of the description."""
    words = {"{model}": "{model_name}", "{version}": "{model_version}"}
    words |= {"{workflow}": "{workflow_name}", "/{*}": "", "/{path}": ""}
    for route in routes:
        path = route.path
        for ours, described in words.items():
            path = path.replace(ours, described)
        yield method(route, path), path


def test_the_inference_description_is_that_of_the_ports_routes():
    runs = ("INFER", "INVOKE", "WORKFLOW")
    rows = (*routes.ROUTES, *routes.LEGACY_ROUTES)
    found = set(served(rows, lambda r, _: "POST" if r.operation.name in runs else "GET"))
    described = set(operations(DOCUMENTS["inference"]))
    assert {row for row in described if row[0] != "OPTIONS"} == found
    options = set(served(routes.OPTIONS_ROUTES, lambda *_: "OPTIONS"))
    assert {row for row in described if row[0] == "OPTIONS"} <= options


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("inference", inference_api.OPERATIONS),
        ("management", management_api.OPERATIONS),
        ("metrics", inference_api.METRICS_OPERATIONS),
        ("a model's management", management_api.MODEL_OPERATIONS),
    ],
)
def test_all_that_is_served_is_described_and_nothing_else(name, rows):
    assert set(operations(DOCUMENTS[name])) == {(row.method, p) for row in rows for p in row.paths}


TORCHSERVES_IDS = [
    ("management", "OPTIONS", "/", "apiDescription"),
    ("management", "GET", "/api-description", "api-description"),
    ("management", "GET", "/models", "listModels"),
    ("management", "POST", "/models", "registerModel"),
    ("management", "GET", "/models/{model_name}", "describeModel"),
    ("management", "PUT", "/models/{model_name}", "setAutoScale"),
    ("management", "DELETE", "/models/{model_name}", "unregisterModel"),
    ("management", "GET", "/models/{model_name}/{model_version}", "version_describeModel"),
    ("management", "PUT", "/models/{model_name}/{model_version}", "version_setAutoScale"),
    ("management", "DELETE", "/models/{model_name}/{model_version}", "version_unregisterModel"),
    ("management", "PUT", "/models/{model_name}/{model_version}/set-default", "setDefault"),
    ("inference", "OPTIONS", "/", "apiDescription"),
    ("inference", "GET", "/api-description", "api-description"),
    ("inference", "GET", "/ping", "ping"),
    ("inference", "POST", "/predictions/{model_name}", "predictions"),
    ("inference", "POST", "/predictions/{model_name}/{model_version}", "version_predictions"),
    ("metrics", "GET", "/metrics", "metrics"),
]


@pytest.mark.parametrize(("name", "method", "path", "id"), TORCHSERVES_IDS)
def test_clients_made_from_torchserves_description_find_their_operations(name, method, path, id):
    assert operations(DOCUMENTS[name])[(method, path)]["operationId"] == id


def defaults(name, method, path):
    parameters = operations(DOCUMENTS[name])[(method, path)]["parameters"]
    return {one["name"]: one["schema"].get("default") for one in parameters}


def test_the_defaults_are_those_that_hold():
    assert defaults("management", "POST", "/models") == {
        **dict.fromkeys(("url", "model_name", "handler", "runtime", "initial_workers")),
        "batch_size": 1,
        "max_batch_delay": 100,
        "response_timeout": 120,
        "startup_timeout": 120,
        "synchronous": True,
        "s3_sse_kms": False,
        "sha256": None,
    }
    scaling = {"min_worker": 1, "max_worker": None, "model_version": None, "synchronous": False}
    path = "/models/{model_name}"
    assert defaults("management", "PUT", path) == {"model_name": None, **scaling}
    assert defaults("management", "PUT", path + "/{model_version}") == {
        "model_name": None,
        **dict.fromkeys(("model_version",)),
        **{key: value for key, value in scaling.items() if key != "model_version"},
    }


def test_a_models_own_description_names_its_paths():
    paths = DOCUMENTS["a model's inference"]["paths"]
    assert "/predictions/resnet-50" in paths
    assert "/predictions/resnet-50/{model_version}" in paths
    assert "/v1/models/resnet-50:predict" in paths
    assert not any("{model_name}" in path for path in paths)
    assert DOCUMENTS["a model's inference"]["info"]["version"] == "1.0.0"


def test_tokens_and_the_open_inference_protocol_are_described_where_they_are_served():
    assert "/token" not in DOCUMENTS["management"]["paths"]
    assert "/token" in DOCUMENTS["management with tokens"]["paths"]
    assert "/v2/health/live" not in DOCUMENTS["inference"]["paths"]
    assert "/v2/health/live" in DOCUMENTS["inference with OIP"]["paths"]


def test_whatever_a_prediction_can_fail_with_is_described():
    """A kind of error that requests meet belongs into the document."""
    met = {
        *(Kind.INVALID_INPUT, Kind.MODEL_NOT_FOUND, Kind.REQUEST_TOO_LARGE, Kind.QUEUE_FULL),
        *(Kind.NO_WORKERS, Kind.DEADLINE_EXCEEDED, Kind.HANDLER_FAILED, Kind.WORKER_DIED),
        *(Kind.POISON_REQUEST_REFUSED, Kind.QUOTA_EXCEEDED, Kind.MEMORY_LOW, Kind.OUT_OF_MEMORY),
        *(Kind.TOKEN_MISSING, Kind.TOKEN_REFUSED),
    }
    responses = openapi.inference_api("1")["paths"]["/predictions/{model_name}"]["post"][
        "responses"
    ]
    assert {str(ROWS[kind].status) for kind in met} <= responses.keys()
