"""The management port over real sockets, in front of a control plane that remembers its calls."""

import json
import queue
import re
import threading

import pytest
from management_port import Port, running_loop

from marserve.events import HttpAnswered
from marserve.protocols.management import Registration
from marserve.protocols.workflows import WorkflowRegistration
from marserve.servers.wsgi_channel import MAX_BODY_BYTES


@pytest.fixture(scope="module")
def loop():
    with running_loop() as loop:
        yield loop


@pytest.fixture(scope="module")
def shared_port(loop):
    port = Port(loop)
    yield port
    port.server.stop(5)


@pytest.fixture
def port(shared_port):
    shared_port.plane.calls.clear()
    while not shared_port.events.empty():
        shared_port.events.get_nowait()
    return shared_port


def status_body(text):
    return {"status": text}


def error_body(code, kind, message):
    return {"code": code, "type": kind, "message": message}


PROCESSING = status_body("Processing worker updates...")
NOT_FOUND = error_body(
    404,
    "ResourceNotFoundException",
    "Requested resource is not found, please refer to API document.",
)
NOT_ALLOWED = error_body(
    405,
    "MethodNotAllowedException",
    "Requested method is not allowed, please refer to API document.",
)


def no_model(name):
    return error_body(404, "ModelNotFoundException", f"Model not found: {name}")


def no_version(name, version):
    return error_body(
        404,
        "ModelVersionNotFoundException",
        f"Model version: {version} does not exist for model: {name}",
    )


def bad(message):
    return error_body(400, "BadRequestException", message)


LIST = [{"modelName": "a", "modelUrl": "a.mar"}, {"modelName": "b", "modelUrl": "b.mar"}]

FLOWS = [
    {"workflowName": "flow", "workflowUrl": "flow.war"},
    {"workflowName": "other", "workflowUrl": "other.war"},
]


def no_workflow(name):
    return error_body(404, "WorkflowNotFoundException", f"Workflow not found: {name}")


OUTCOMES = [
    # register
    (
        "POST",
        "/models?url=m.mar",
        200,
        status_body(
            'Model "m" Version: 1.0 registered with 0 initial workers. '
            "Use scale workers API to add workers for the model."
        ),
    ),
    (
        "POST",
        "/models?url=m.mar&initial_workers=2",
        200,
        status_body('Model "m" Version: 1.0 registered with 2 initial workers'),
    ),
    ("POST", "/models/?url=m.mar&initial_workers=2&synchronous=false", 202, PROCESSING),
    (
        "POST",
        "/models?url=bad.mar",
        500,
        error_body(
            500,
            "InternalServerException",
            "Failed to start workers for model m version: 1.0",
        ),
    ),
    (
        "POST",
        "/models?url=fat.mar",
        507,
        error_body(
            507,
            "InternalServerException",
            "Failed to start workers for model m version: 1.0",
        ),
    ),
    (
        "POST",
        "/models?url=twice.mar",
        409,
        error_body(
            409,
            "ConflictStatusException",
            "Model version 1.0 is already registered for model m",
        ),
    ),
    ("POST", "/models", 400, bad("Parameter url is required.")),
    (
        "POST",
        "/models?url=gone.mar",
        404,
        error_body(404, "ModelNotFoundException", "Model not found at: gone.mar"),
    ),
    (
        "POST",
        "/models?url=nostore.mar",
        404,
        error_body(404, "ModelNotFoundException", "Model store has not been configured."),
    ),
    (
        "POST",
        "/models?url=broken.mar",
        400,
        error_body(400, "InvalidModelException", "broken.mar is not a zip archive."),
    ),
    (
        "POST",
        "/models?url=full.mar",
        507,
        error_body(
            507,
            "InternalServerException",
            "The state could not be written: no space left on device.",
        ),
    ),
    (
        "POST",
        "/models?url=late.mar",
        503,
        error_body(503, "ServiceUnavailableException", "The server is being stopped.")
        | {"reason": "closing"},
    ),
    ("POST", "/models?url=m.mar&runtime=PYTHON", 400, bad("Invalid RuntimeType value: PYTHON")),
    (
        "POST",
        "/models?url=m.mar&batch_size=0",
        400,
        bad("Parameter batch_size must be at least 1, not 0."),
    ),
    (
        "POST",
        "/models?url=m.mar&initial_workers=two",
        400,
        bad("Parameter initial_workers must be a whole number."),
    ),
    # scale
    ("PUT", "/models/a", 202, PROCESSING),
    ("PUT", "/models/a/2.0?min_worker=2", 202, PROCESSING),
    (
        "PUT",
        "/models/a?min_worker=3&synchronous=true",
        200,
        status_body("Workers scaled to 3 for model: a"),
    ),
    (
        "PUT",
        "/models/a/2.0?min_worker=3&synchronous=true",
        200,
        status_body("Workers scaled to 3 for model: a, version: 2.0"),
    ),
    (
        "PUT",
        "/models/a?model_version=2.0&synchronous=true",
        200,
        status_body("Workers scaled to 1 for model: a, version: 2.0"),
    ),
    ("PUT", "/models/a?max_worker=0", 400, bad("max_worker cannot be less than min_worker.")),
    ("PUT", "/models/a?max_worker=-1", 400, bad("max_worker cannot be less than min_worker.")),
    (
        "PUT",
        "/models/a?min_worker=-1",
        400,
        bad("Parameter min_worker must be at least 0, not -1."),
    ),
    ("PUT", "/models/none", 404, no_model("none")),
    ("PUT", "/models/a/9", 404, no_version("a", "9")),
    ("PUT", "/models/a/set-default", 404, no_version("a", "set-default")),
    # describe
    ("GET", "/models/none", 404, no_model("none")),
    ("GET", "/models/none/all", 404, no_model("none")),
    ("GET", "/models/a/9", 404, no_version("a", "9")),
    ("GET", "/models/%zz", 404, no_model("%zz")),
    ("GET", "/models/%22%C3%A9%0A", 404, no_model('"é\n')),
    ("GET", "/models/none?customized=true", 404, no_model("none")),
    ("GET", "/models/a?customized=1", 400, bad("Parameter customized must be true or false.")),
    (
        "GET",
        "/models/b?customized=true",
        503,
        error_body(
            503,
            "ServiceUnavailableException",
            'Model "b" has no worker to serve describe request. '
            "Please use scale workers API to add workers.",
        ),
    ),
    (
        "GET",
        "/models/a/2.0?customized=true",
        500,
        error_body(500, "InternalServerException", "Failed to get customized model matadata."),
    ),
    # list
    ("GET", "/models", 200, {"models": LIST}),
    ("GET", "/models/", 200, {"models": LIST}),
    ("GET", "/models?limit=1", 200, {"nextPageToken": "1", "models": LIST[:1]}),
    ("GET", "/models?limit=1&next_page_token=1", 200, {"nextPageToken": "2", "models": LIST[1:]}),
    ("GET", "/models?limit=2", 200, {"nextPageToken": "2", "models": LIST}),
    ("GET", "/models?limit=0", 200, {"nextPageToken": "0", "models": []}),
    ("GET", "/models?next_page_token=9", 200, {"models": []}),
    ("GET", "/models?limit=x", 400, bad("Parameter limit must be a whole number.")),
    # set default
    (
        "PUT",
        "/models/a/2.0/set-default",
        200,
        status_body('Default version successfully updated for model "a" to "2.0"'),
    ),
    ("PUT", "/models/none/2.0/set-default", 404, no_model("none")),
    (
        "PUT",
        "/models/a/9/set-default",
        404,
        error_body(
            404,
            "ModelVersionNotFoundException",
            "Model version 9 does not exist for model a",
        ),
    ),
    ("POST", "/models/a/2.0/set-default", 405, NOT_ALLOWED),
    ("GET", "/models/a/2.0/foo", 404, NOT_FOUND),
    # unregister
    ("DELETE", "/models/b", 200, status_body('Model "b" unregistered')),
    ("DELETE", "/models/a/2.0", 200, status_body('Model "a" unregistered')),
    (
        "DELETE",
        "/models/a",
        403,
        error_body(
            403, "InvalidModelVersionException", "Cannot remove default version for model a"
        ),
    ),
    ("DELETE", "/models/none", 404, no_model("none")),
    ("DELETE", "/models/a/9", 404, no_version("a", "9")),
    (
        "DELETE",
        "/models/a/slow",
        408,
        error_body(408, "RequestTimeoutException", "Timed out while cleaning resources: a"),
    ),
    # others
    ("GET", "/v1/models/a", 200, {"name": "a", "ready": True}),
    ("GET", "/v1/models/b", 200, {"name": "b", "ready": False}),
    ("GET", "/v1/models/none", 404, no_model("none")),
    ("POST", "/v1/models/a", 405, NOT_ALLOWED),
    ("GET", "/v1/models", 404, NOT_FOUND),
    ("GET", "/v1/models/a/1.0", 404, NOT_FOUND),
    ("POST", "/models/a", 405, NOT_ALLOWED),
    ("POST", "/models/a/1.0", 405, NOT_ALLOWED),
    ("PUT", "/models", 405, NOT_ALLOWED),
    ("DELETE", "/models", 405, NOT_ALLOWED),
    ("PATCH", "/models/a", 405, NOT_ALLOWED),
    ("GET", "/", 405, NOT_ALLOWED),
    ("GET", "/ping", 404, NOT_FOUND),
    ("GET", "/metrics", 404, NOT_FOUND),
    ("POST", "/predictions/a", 404, NOT_FOUND),
    ("GET", "/models//a", 404, NOT_FOUND),
    ("OPTIONS", "/models", 405, NOT_ALLOWED),
    ("OPTIONS", "/models/none", 404, no_model("none")),
    ("OPTIONS", "/models/a/9", 404, no_version("a", "9")),
    ("GET", "/models/a/2.0/set-default", 405, NOT_ALLOWED),
    ("DELETE", "/models/a/2.0/set-default", 405, NOT_ALLOWED),
    ("GET", "/token?type=management", 404, NOT_FOUND),
    # workflows
    (
        "POST",
        "/workflows?url=flow.war",
        200,
        status_body("Workflow flow has been registered and scaled successfully."),
    ),
    ("POST", "/workflows", 400, bad("Parameter url is required.")),
    (
        "POST",
        "/workflows?url=twice.war",
        409,
        error_body(409, "ConflictStatusException", "Workflow flow is already registered."),
    ),
    (
        "POST",
        "/workflows?url=loop.war",
        400,
        error_body(400, "InvalidDAGException", "DAG should have only one start node"),
    ),
    ("GET", "/workflows", 200, {"workflows": FLOWS}),
    ("GET", "/workflows/", 200, {"workflows": FLOWS}),
    ("GET", "/workflows?limit=1", 200, {"nextPageToken": "1", "workflows": FLOWS[:1]}),
    ("GET", "/workflows?limit=0", 200, {"nextPageToken": "0", "workflows": []}),
    ("GET", "/workflows/none", 404, no_workflow("none")),
    ("DELETE", "/workflows/flow", 200, status_body('Workflow "flow" unregistered')),
    ("DELETE", "/workflows/none", 404, no_workflow("none")),
    ("PUT", "/workflows/flow", 405, NOT_ALLOWED),
    ("PUT", "/workflows", 405, NOT_ALLOWED),
    ("DELETE", "/workflows", 405, NOT_ALLOWED),
    ("GET", "/workflows/flow/1.0", 404, NOT_FOUND),
    ("GET", "/Models", 404, NOT_FOUND),
]


@pytest.mark.parametrize(("method", "target", "status", "document"), OUTCOMES)
def test_every_outcome_is_answered_as_torchserve_answers_it(port, method, target, status, document):
    got_status, headers, body = port.ask(method, target)
    assert (got_status, json.loads(body)) == (status, document)
    assert body == (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    assert headers["content-type"] == "application/json"
    event = port.events.get(timeout=5)
    assert (event.status, event.method) == (status, method)


def test_what_is_described_is_an_array(port):
    status, _, body = port.ask("GET", "/models/a")
    assert status == 200
    assert [one["modelVersion"] for one in json.loads(body)] == ["1.0"]
    _, _, body = port.ask("GET", "/models/a/all")
    assert [one["modelVersion"] for one in json.loads(body)] == ["1.0", "2.0"]
    assert b'    "workers": [],\n' in body


def test_a_handler_is_asked_to_describe_itself_when_that_is_wanted(port):
    status, _, body = port.ask("GET", "/models/a?customized=TRUE")
    [document] = json.loads(body)
    assert (status, document["customizedMetadata"]) == (200, {"labels": ["cat"]})
    port.ask("GET", "/models/a/all?customized=true")
    port.ask("GET", "/models/a?customized=false")
    assert port.plane.calls == [("ask the handler", "a", None)]


def test_a_workflow_is_described_in_an_array(port):
    status, _, body = port.ask("GET", "/workflows/flow")
    assert (status, json.loads(body)) == (
        200,
        [
            {
                "workflowName": "flow",
                "workflowUrl": "flow.war",
                "minWorkers": 1,
                "maxWorkers": 2,
                "batchSize": 4,
                "maxBatchDelay": 50,
                "workflowDag": "{pre=[a, b], a=[post], b=[post]}",
            }
        ],
    )


def test_a_workflow_arrives_at_the_plane_as_it_was_asked_for(port):
    port.ask(
        "POST",
        "/workflows",
        json.dumps({"url": "flow.war", "workflow_name": "x", "startup_timeout": 7}),
        {"Content-Type": "application/json"},
    )
    assert port.plane.calls == [WorkflowRegistration("flow.war", "x", None, 7)]


def test_a_query_to_scale_counts_more_than_a_body(port):
    kind = {"Content-Type": "application/json"}
    port.ask("PUT", "/models/a?min_worker=3", json.dumps({"min_worker": 2, "max_worker": 4}), kind)
    assert port.plane.calls == [("a", None, 3, 4, False)]


def test_a_model_has_a_description_of_its_own(port):
    for target in ("/models/a", "/models/a/2.0"):
        status, _, body = port.ask("OPTIONS", target)
        document = json.loads(body)
        assert (status, document["openapi"]) == (200, "3.0.1")
        assert "/models/{model_name}/{model_version}/set-default" in document["paths"]
        assert "/models" not in document["paths"]


def test_a_registration_arrives_at_the_plane_as_it_was_asked_for(port):
    port.ask("POST", "/models?url=m.mar&batch_size=4&synchronous=False")
    port.ask(
        "POST",
        "/models?url=query.mar",
        json.dumps({"url": "body.mar", "model_name": "x", "max_batch_delay": 5}),
        {"Content-Type": "application/json"},
    )
    assert port.plane.calls == [
        Registration("m.mar", batch_size=4, synchronous=False),
        Registration("body.mar", model_name="x", max_batch_delay_ms=5),
    ]


def test_a_form_is_not_read(port):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    status, _, body = port.ask("POST", "/models", "url=m.mar", form)
    assert (status, json.loads(body)) == (400, bad("Parameter url is required."))


def test_broken_json_is_a_bad_request(port):
    status, _, body = port.ask("POST", "/models", "{", {"Content-Type": "application/json"})
    assert status == 400
    assert json.loads(body)["type"] == "BadRequestException"
    assert port.plane.calls == []


def test_a_wish_to_scale_arrives_with_torchserves_defaults(port):
    port.ask("PUT", "/models/a")
    port.ask("PUT", "/models/a/2.0?max_worker=4&synchronous=true")
    assert port.plane.calls == [("a", None, 1, None, False), ("a", "2.0", 1, 4, True)]


def test_a_bug_shows_nothing_of_itself(port, caplog):
    status, _, body = port.ask("POST", "/models?url=bug.mar")
    document = json.loads(body)
    assert (status, document["type"]) == (500, "InternalServerException")
    assert b"secret" not in body
    assert "secret" in caplog.text
    assert re.search(r"[0-9a-f]{16}", document["message"])[0] in caplog.text


def test_every_answer_has_torchserves_headers(port):
    for target in ("/models", "/nowhere"):
        _, headers, body = port.ask("GET", target)
        assert re.fullmatch(
            r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
            headers["x-request-id"],
        )
        assert headers["Pragma"] == "no-cache"
        assert headers["Cache-Control"] == "no-cache; no-store, must-revalidate, private"
        assert headers["Expires"] == "Thu, 01 Jan 1970 00:00:00 UTC"
        assert headers["content-length"] == str(len(body))
        assert "Server" not in headers


def test_a_clients_request_id_is_not_taken_over(port):
    _, headers, _ = port.ask("GET", "/models", headers={"x-request-id": "mine"})
    assert headers.get_all("x-request-id") != ["mine"]
    assert len(headers.get_all("x-request-id")) == 1


def test_head_is_refused_without_a_body(port):
    status, _, body = port.ask("HEAD", "/models")
    assert (status, body) == (405, b"")
    assert port.ask("HEAD", "/nowhere")[0] == 404


@pytest.mark.parametrize(("method", "target"), [("OPTIONS", "/"), ("GET", "/api-description")])
def test_the_api_describes_itself(port, method, target):
    status, _, body = port.ask(method, target)
    document = json.loads(body)
    assert (status, document["info"]["version"]) == (200, "1.2.3")
    assert "post" in document["paths"]["/models"]


def test_a_switched_off_model_api_still_describes_and_scales(loop):
    port = Port(loop, enable_model_api=False)
    try:
        got = {
            (method, target): port.ask(method, target)[0]
            for method, target in [
                ("POST", "/models?url=m.mar"),
                ("DELETE", "/models/b"),
                ("DELETE", "/models/b/1.0"),
                ("POST", "/workflows?url=flow.war"),
                ("DELETE", "/workflows/flow"),
                ("GET", "/models"),
                ("GET", "/models/a"),
                ("PUT", "/models/a"),
                ("PUT", "/models/a/2.0/set-default"),
            ]
        }
        assert list(got.values()) == [*[405] * 5, 200, 200, 202, 200]
        assert port.plane.calls == [("a", None, 1, None, False), ("default", "a", "2.0")]
    finally:
        port.server.stop(5)


# --- pages in browsers ---


@pytest.mark.parametrize(
    ("origin", "host", "is_answered"),
    [
        (None, "evil.example", False),  # a browser sends no Origin with a GET of its own site
        (None, "{own}", True),
        ("http://{own}", "{own}", True),
        ("http://localhost:8081", "localhost:8081", True),
        ("http://LOCALHOST:8081", "localhost:8081", True),
        ("http://[::1]:8081", "[::1]:8081", True),
        ("http://localhost", "localhost", True),
        ("http://[::1]", "[::1]", True),
        ("http://evil.example", "{own}", False),
        ("http://127.0.0.1:1", "{own}", False),
        ("null", "{own}", False),
        ("", "{own}", False),
        # DNS rebinding: the page's own name has come to mean this host
        ("http://evil.example:8081", "evil.example:8081", False),
        ("http://localhost.evil.example", "localhost.evil.example", False),
        ("http://127.0.0.1.evil.example", "127.0.0.1.evil.example", False),
    ],
)
def test_only_a_page_of_this_very_host_may_ask(port, origin, host, is_answered):
    own = f"127.0.0.1:{port.address[1]}"
    headers = {"Host": host.format(own=own)}
    if origin is not None:
        headers["Origin"] = origin.format(own=own)
    status, _, body = port.ask("POST", "/models?url=m.mar", headers=headers)
    assert status == (200 if is_answered else 403)
    assert bool(port.plane.calls) == is_answered
    if not is_answered:
        assert json.loads(body)["type"] == "ForbiddenException"


# --- what does not get as far as a route ---


def test_a_body_over_the_limit_is_refused(port):
    kind = {"Content-Type": "application/json"}
    status, _, body = port.ask("POST", "/models", b" " * (MAX_BODY_BYTES + 1), kind)
    assert (status, json.loads(body)["type"]) == (413, "RequestTooLargeException")
    status, _, _ = port.ask("GET", "/models", b" " * (MAX_BODY_BYTES + 1))
    assert status == 413
    filled = b'{"url": "m.mar", "x": "' + b"x" * (MAX_BODY_BYTES - 25) + b'"}'
    assert len(filled) == MAX_BODY_BYTES
    assert port.ask("POST", "/models", filled, kind)[0] == 200


def test_a_chunked_body_counts_as_well(port):
    status, _, _ = port.ask(
        "POST", "/models", iter([b" " * 65536] * 20), {"Content-Type": "application/json"}
    )
    assert status == 413


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"GET /models HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /models HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"POST /models HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n", 413),
        (b"GET /models HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"POST /models HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: ?!\r\nConnection: close\r\n\r\n", 400),
        (b"BREW /models HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ],
)
def test_malformed_requests_get_the_same_kind_of_answer(port, request_bytes, status):
    head, _, body = port.raw(request_bytes).partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == str(status).encode()
    assert json.loads(body)["code"] == status
    assert b"X-Request-Id: " in head
    assert b"\r\nServer:" not in head
    assert port.events.get(timeout=5).status == status


def test_an_answer_is_published_without_its_query(port):
    port.ask("GET", "/models/a%22b?url=https://signed/?token=secret")
    event = port.events.get(timeout=5)
    host, _, client_port = event.client.rpartition(":")
    assert replace_unknowns(event) == HttpAnswered(
        "management", "GET", "/models/a%22b", "", 404, 0.0
    )
    assert (host, client_port.isdigit()) == ("127.0.0.1", True)
    assert 0 <= event.duration_s < 10


def replace_unknowns(event):
    return HttpAnswered(event.port, event.method, event.path, "", event.status, 0.0)


def test_sixteen_clients_are_served_at_once(port):
    answers = queue.Queue()

    def client():
        answers.put([port.ask("GET", f"/models/{name}")[0] for name in ("a", "b", "none") * 5])

    threads = [threading.Thread(target=client) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [answers.get_nowait() for _ in threads] == [[200, 200, 404] * 5] * 16
