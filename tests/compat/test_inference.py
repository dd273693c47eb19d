"""The inference port answers as TorchServe's does: paths, rows per route, heads, errors."""

from __future__ import annotations

import re

import pytest
from contract import ANY, Case, Differs, Response, Subset, error, table
from targets import Target

NOT_FOUND = error(
    404,
    "ResourceNotFoundException",
    "Requested resource is not found, please refer to API document.",
)
NOT_ALLOWED = error(
    405,
    "MethodNotAllowedException",
    "Requested method is not allowed, please refer to API document.",
)
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
JSON = {"content-type": "application/json"}
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
NO_MODEL = error(404, "ModelNotFoundException", "Model not found: nobody")
X = {"body": ["bytearray", "x"]}


@pytest.fixture(scope="module")
def served(target: Target) -> Target:
    target.pack("shows", "shows.py")
    target.pack("acts", "acts.py")
    target.pack("streamer", "streamer.py")
    return target.start(load_models="shows.mar,acts.mar,streamer.mar", max_request_size=100_000)


# --- routes ---------------------------------------------------------------------------------------


def infers(request: str, row: object = ANY, **more: object) -> Case:
    """A request with the body `x` that runs the model; `row` is what the handler got."""
    more.setdefault("sent", b"x")
    return Case(request, 200, Subset(row=row), **more)


@table(
    infers("POST /predictions/shows", X),
    infers("POST /predictions/shows/", X),
    infers("POST /predictions/shows/1.0", X),
    infers("POST /predictions/shows/1.0/some/path", X),
    infers("POST /explanations/shows/1.0/some/path", X),
    infers("GET /predictions/shows", X),
    infers("PUT /predictions/shows", X),
    infers("DELETE /predictions/shows", X),
    infers("PATCH /predictions/shows", X),
    infers("POST /v1/models/shows:predict", X),
    infers("POST /v1/models/shows:explain", X),
    infers("POST /v2/models/shows/infer", X),
    infers("POST /v2/models/shows/explain", X),
    infers("POST /models/shows/invoke", X),
    infers("POST /shows/predict", X),
    infers("POST /shows/1.0/predict", X),
    infers("POST /predictions/%73hows", X),
    Case("GET /ping", 200, {"status": "Healthy"}, headers=JSON),
    Case("DELETE /ping/", 200, {"status": "Healthy"}),
    Case("GET /ping/what/ever?x", 200, {"status": "Healthy"}),
    Case("GET /", 405, NOT_ALLOWED),
    Case("POST /", 405, NOT_ALLOWED),
    Case("OPTIONS /", 200, Subset(openapi="3.0.1", info=ANY, paths=dict), headers=JSON),
    Case("GET /api-description", 200, Subset(openapi="3.0.1", info=ANY, paths=dict)),
    Case("OPTIONS /predictions/shows", 200, Subset(openapi="3.0.1", info=ANY, paths=dict)),
    Case("OPTIONS /predictions/nobody", 404, NO_MODEL),
    Case("OPTIONS /ping", 200, {"status": "Healthy"}),
    Case("GET /predictions/nobody", 404, NO_MODEL),
    Case("POST /explanations/nobody", 404, NO_MODEL),
    Case("POST /v1/models/nobody:predict", 404, NO_MODEL),
    Case("POST /v2/models/nobody/infer", 404, NO_MODEL),
    Case("POST /models/nobody/invoke", 404, NO_MODEL),
    Case("POST /nobody/predict", 404, NO_MODEL),
    Case(
        "POST /predictions/shows/9.9",
        404,
        error(
            404,
            "ModelVersionNotFoundException",
            "Model version: 9.9 does not exist for model: shows",
        ),
    ),
    Case("GET /predictions", 404, NOT_FOUND),
    Case("GET /Predictions/shows", 404, NOT_FOUND),
    Case("GET //ping", 404, NOT_FOUND),
    Case("GET /nowhere", 404, NOT_FOUND),
    Case("OPTIONS /nowhere", 404, NOT_FOUND),
    Case("GET /metrics", 404, NOT_FOUND),
    Case("GET /models", 404, NOT_FOUND),
    Case("GET /models/shows", 404, NOT_FOUND),
    Case("GET /models/shows/1.0", 404, NOT_FOUND),
    Case("GET /v1/models/shows", 404, NOT_FOUND),
    Case("GET /v2", 404, NOT_FOUND),
    Case("GET /v2/models/shows", 404, NOT_FOUND),
    Case("GET /v2/models/shows/ready", 404, NOT_FOUND),
    Case("POST /v2/models/shows/versions/1.0/infer", 404, NOT_FOUND),
    Case(
        "OPTIONS /explanations/shows",
        404,
        NOT_FOUND,
        differs=Differs("browsers send OPTIONS on their own: no model runs", status=200),
    ),
    Case(
        "POST /wfpredict/nobody",
        404,
        error(404, "WorkflowNotFoundException", "Workflow not found: nobody"),
    ),
    Case(
        "POST /WFPredict/nobody/more",
        404,
        error(404, "WorkflowNotFoundException", "Workflow not found: nobody"),
    ),
    Case(
        "GET /predictions/%zz",
        404,
        error(404, "ModelNotFoundException", "Model not found: %zz"),
        differs=Differs(
            "a path that is no path is about the path, not about Java",
            status=403,
            body=Subset(type="IllegalArgumentException"),
        ),
    ),
)
def test_a_path_means_the_same(served, case):
    served.check(case)


def test_head_predicts_and_leaves_the_body_out(served):
    got = served.exchange("inference", b"HEAD /predictions/shows HTTP/1.1\r\nHost: x\r\n\r\n", 1.0)
    head, _, rest = got.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 ")
    assert int(re.search(rb"content-length: (\d+)", head)[1]) > 100
    assert rest == b""


# --- what a handler sees per route ----------------------------------------------------------------

FORM_ROW = {"a": ["bytearray", "2"], "b": ["bytearray", "3"]}


@table(
    infers("POST /predictions/shows?a=1", X),
    infers("POST /predictions/shows/1.0?a=1", X),
    infers("POST /explanations/shows?a=1", X),
    infers("POST /v1/models/shows:predict?a=1", X),
    infers("POST /v2/models/shows/infer?a=1", X),
    infers("POST /models/shows/invoke?a=1", {"a": ["bytearray", "1"], **X}),
    infers(
        "POST /invocations?model_name=shows&a=1&a=%20b+c",
        {"model_name": ["bytearray", "shows"], "a": ["bytearray", " b c"], **X},
    ),
    infers("POST /shows/predict?a=1", {"a": ["bytearray", "1"], **X}),
    infers("POST /shows/1.0/predict?a=1", {"a": ["bytearray", "1"], **X}),
    infers("POST /models/shows/invoke?a", {"a": ["bytearray", ""], **X}),
    infers("POST /models/shows/invoke?body=q", X),
    infers(
        "POST /models/shows/invoke?a=1",
        FORM_ROW,
        sent=b"a=2&b=3",
        content_type=URLENCODED,
        title="a form wins over the query",
    ),
    infers(
        "POST /invocations",
        {"model_name": ["bytearray", "shows"], "a": ["bytearray", "1"]},
        sent=b"model_name=shows&a=1",
        content_type=URLENCODED,
        title="a form says which model to invoke",
    ),
    infers(
        "POST /invocations",
        {"model_name": ["bytearray", "shows"]},
        sent=b'--b\r\nContent-Disposition: form-data; name="model_name"\r\n\r\nshows\r\n--b--\r\n',
        content_type=MULTIPART,
        title="a multipart form says which model to invoke",
    ),
    infers(
        "POST /invocations?model_name=shows",
        {"model_name": ["bytearray", "shows"], "body": ["dict", {"a": 1}]},
        sent={"a": 1},
    ),
    Case(
        "POST /invocations",
        400,
        error(400, "BadRequestException", "Parameter model_name is required."),
        sent=b"x",
        title="an invocation of nobody, where several models are there",
    ),
    Case("POST /invocations?model_name=nobody", 404, NO_MODEL, sent=b"x"),
)
def test_a_row_holds_the_query_where_torchserves_does(served, case):
    served.check(case)


@pytest.mark.parametrize(
    ("path", "explain", "url_path"),
    [
        ("/predictions/shows", "False", ""),
        ("/predictions/shows/1.0/", "False", ""),
        ("/predictions/shows/1.0/a/b%20c/?x=1", "False", "a/b c"),
        ("/explanations/shows", "True", ""),
        ("/explanations/shows/1.0/p", "True", "p"),
        ("/v1/models/shows:predict", "False", None),
        ("/v1/models/shows:explain", "True", None),
        ("/v2/models/shows/infer", "False", None),
        ("/v2/models/shows/explain", "True", None),
        ("/invocations?model_name=shows", None, None),
        ("/models/shows/invoke", None, None),
        ("/shows/predict", None, None),
        ("/shows/1.0/predict", None, None),
    ],
)
def test_a_handler_is_told_the_same_of_the_path(served, path, explain, url_path):
    headers = served.call(Case(f"POST {path}", 200, sent=b"x")).json()["headers"]

    assert (headers.get("explain"), headers.get("url_path")) == (explain, url_path)


@pytest.mark.parametrize(
    ("raw", "seen", "unseen"),
    [
        (
            b"Content-Length: 2\r\nX-Custom: V\r\nx-custom: w\r\nCookie: a=b\r\n\r\nbb",
            {"Content-Length": "2", "X-Custom": "V", "x-custom": "w", "Cookie": "a=b"},
            ["content-length"],
        ),
        (
            b"Transfer-Encoding: chunked\r\nContent-Type: text/a; b=c\r\n\r\n2\r\nbb\r\n0\r\n\r\n",
            {"content-length": "2", "Content-Type": "text/a; b=c"},
            ["Transfer-Encoding", "Content-Length"],
        ),
        (
            b"Expect: 100-continue\r\nContent-Length: 2\r\nAuthorization: y\r\n\r\nbb",
            {"Content-Length": "2", "Authorization": "y"},
            ["Expect"],
        ),
        (b"Accept: */*\r\n\r\n", {"content-length": "0", "Accept": "*/*"}, ["Content-Length"]),
        (b"X-Dup: 1\r\nX-Dup: 2\r\n\r\n", {"X-Dup": "2"}, []),
    ],
)
def test_a_handler_sees_the_same_headers(served, raw, seen, unseen):
    case = Case("", 200, raw=b"POST /predictions/shows HTTP/1.1\r\nHost: localhost\r\n" + raw)
    headers = served.call(case).json()["headers"]

    assert {name: headers.get(name) for name in seen} == seen
    assert [name for name in unseen if name in headers] == []


def test_the_id_of_a_request_is_that_of_its_answer_and_the_server_s_own(served):
    asked = Case("POST /predictions/shows", 200, sent=b"x", sent_headers={"x-request-id": "mine"})
    response = served.call(asked)

    assert UUID4.fullmatch(response.header("x-request-id"))
    assert response.json()["id"] == response.header("x-request-id")


# --- heads ----------------------------------------------------------------------------------------

NO_CACHE = [
    ("x-request-id", ANY),
    ("Pragma", "no-cache"),
    ("Cache-Control", "no-cache; no-store, must-revalidate, private"),
    ("Expires", "Thu, 01 Jan 1970 00:00:00 UTC"),
]
SETS = "POST /predictions/acts/1.0/status"


def length(response: Response) -> tuple[str, str]:
    return "content-length", str(len(response.body))


@pytest.mark.parametrize(
    ("request_line", "sent", "first", "connection"),
    [
        ("POST /predictions/shows", b"x", [], "keep-alive"),
        ("GET /ping", b"", [("content-type", "application/json")], "keep-alive"),
        ("GET /nowhere", b"", [("content-type", "application/json")], "close"),
        (
            SETS,
            {"code": 201, "headers": {"X-Odd": "v", "pragma": "z", "X-Request-Id": "mine"}},
            [("X-Odd", "v")],
            "keep-alive",
        ),
        (SETS, {"code": 404, "body": "gone"}, [], "close"),
    ],
)
def test_the_headers_of_an_answer_are_these_in_this_order(
    served, request_line, sent, first, connection
):
    response = served.call(Case(request_line, 200, sent=sent))

    assert list(response.headers) == [
        *first,
        *NO_CACHE,
        length(response),
        ("connection", connection),
    ]


@pytest.mark.ours_only
@pytest.mark.differs(
    "`Connection: close` and HTTP/1.0",
    "the connection is closed after the answer",
    "ignored: the connection stays open",
    "clients that ask for the end wait for it",
)
@pytest.mark.parametrize("head", [b"HTTP/1.0\r\n", b"HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"])
def test_who_asks_for_the_end_of_the_connection_gets_it(served, head):
    got = served.exchange("inference", b"GET /ping %s\r\n" % head, 5.0)

    assert b"connection: close\r\n" in got
    assert got.endswith(b'{\n  "status": "Healthy"\n}\n')


def test_an_error_really_ends_the_connection(served):
    got = served.exchange(
        "inference",
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\nGET /ping HTTP/1.1\r\nHost: x\r\n\r\n",
    )

    assert got.count(b"HTTP/1.1 ") == 1


@pytest.mark.ours_only
@pytest.mark.differs(
    "pipelined requests",
    "answered in their order, every one of them",
    "an error overtakes predictions, and closes the connection before they are answered",
    "a client cannot tell otherwise which answer belongs to which request",
)
def test_pipelined_requests_are_answered_in_order(served):
    asked = b"POST /predictions/acts/1.0/text HTTP/1.1\r\nHost: x\r\n\r\n"
    asked += b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"
    got = served.exchange("inference", asked + b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")

    assert got.count(b"HTTP/1.1 ") == 3
    assert got.index(b"\xc3\xa9") < got.index(b"Healthy") < got.index(b"ResourceNotFound")


# --- what cannot be served ------------------------------------------------------------------------

INVALID = error(400, "BadRequestException", "Invalid HTTP message.")


@table(
    Case("", 400, INVALID, raw=b"garbage\r\n\r\n", title="garbage"),
    Case(
        "",
        400,
        INVALID,
        raw=b"POST /ping HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        title="a length that is no number",
    ),
    Case(
        "",
        400,
        INVALID,
        raw=b"GET ping HTTP/1.1\r\nHost: x\r\n\r\n",
        title="a target that is no path",
        differs=Differs("the request is wrong, not the server", status=500),
    ),
    Case(
        "",
        414,
        raw=b"GET /" + b"t" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        title="a request line without end (8 KiB; TorchServe: 4 KiB)",
        differs=Differs("the status says which limit it was", status=400),
    ),
    Case(
        "",
        431,
        raw=b"GET /ping HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
        title="headers without end (32 KiB; TorchServe: 8 KiB)",
        differs=Differs("the status says which limit it was", status=400),
    ),
    Case("POST /predictions/shows", 200, sent=b"x" * 100_000, title="a body of the limit"),
    Case(
        "POST /predictions/shows",
        413,
        Subset(type="RequestTooLargeException"),
        sent=b"x" * 100_001,
        title="a body over the limit",
        differs=Differs("the answer says what the limit is", body=b""),
    ),
    Case(
        "",
        417,
        Subset(type="BadRequestException"),
        raw=b"POST /ping HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 200-ok\r\n\r\n",
        title="an expectation that cannot be met",
        differs=Differs("the answer says what is understood", body=b""),
    ),
)
def test_what_is_no_request_is_refused(served, case):
    served.check(case)


# --- streams --------------------------------------------------------------------------------------


def streamed(served: Target, body: bytes, version: bytes = b"1.1") -> tuple[list[bytes], bytes]:
    """The lines of the head, less those that every answer has, and everything behind it."""
    asked = b"POST /predictions/streamer HTTP/%s\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (
        version,
        len(body),
    )
    head, _, rest = served.exchange("inference", asked + body, 2.0).partition(b"\r\n\r\n")
    common = (b"x-request-id", b"Pragma", b"Cache-Control", b"Expires")
    return [line for line in head.split(b"\r\n") if not line.startswith(common)], rest


def test_each_piece_is_a_chunk_and_the_result_is_the_last_one(served):
    head, rest = streamed(served, b"2")

    assert head[0].startswith(b"HTTP/1.1 200 ")
    assert head[1:] == [
        b"ts_stream_next: true",
        b"transfer-encoding: chunked",
        b"connection: keep-alive",
    ]
    assert rest == b"2\r\n0 \r\n2\r\n1 \r\n3\r\nend\r\n0\r\n\r\n"


@pytest.mark.parametrize("end", [b"2 raise", b"2 die"])
def test_a_stream_that_breaks_off_ends_without_the_last_chunk(served, end):
    _, rest = streamed(served, end)

    assert rest == b"2\r\n0 \r\n2\r\n1 \r\n"
    served.wait_until_ready("streamer")


@pytest.mark.ours_only
@pytest.mark.differs(
    "a streamed answer to a client of HTTP/1.0",
    "the bare pieces, then the end of the connection",
    "chunks, which that version does not know",
    "the client must be able to read it",
)
def test_a_client_of_http_1_0_gets_the_pieces_bare(served):
    head, rest = streamed(served, b"2", b"1.0")

    assert head[1:] == [b"ts_stream_next: true", b"connection: close"]
    assert rest == b"0 1 end"


# --- other configurations -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def configured(make_target) -> Target:
    """One model alone, CORS, and the Open Inference Protocol."""
    target = make_target()
    target.pack("shows", "shows.py")
    return target.start(
        load_models="shows.mar",
        cors_allowed_origin="https://app.example",
        cors_allowed_methods="GET, POST",
        cors_allowed_headers="X-Custom",
        ts_open_inference_protocol="true",
    )


CORS = {
    "access-control-allow-origin": "https://app.example",
    "access-control-allow-methods": "GET, POST",
    "access-control-allow-headers": "X-Custom",
}
PREFLIGHT = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}


@table(
    infers("POST /invocations", X, title="the only model of the start is invoked"),
    infers("POST /predictions/shows", headers=CORS),
    Case("GET /nowhere", 404, NOT_FOUND, headers=CORS),
    Case("GET /ping", 200, headers=CORS),
    Case(
        "OPTIONS /predictions/shows",
        204,
        b"",
        sent_headers=PREFLIGHT,
        headers={**CORS, "content-length": None},
        title="a browser asks whether it may predict",
        differs=Differs("it is an answer to what the browser asks", status=200),
    ),
    Case(
        "OPTIONS /explanations/shows",
        204,
        b"",
        sent_headers=PREFLIGHT,
        headers=CORS,
        title="a browser asks whether it may explain",
        differs=Differs("no model runs before the browser has asked in earnest", status=200),
    ),
    Case(
        "GET /v2",
        200,
        {"name": "marserve", "version": str, "extenstion": ANY, "extensions": ANY},
        differs=Differs(
            "it is this server, and the key is the protocol's as well as TorchServe's",
            told=("`extensions` beside `extenstion`; its own name", "`extenstion` alone"),
            body={"name": "Torchserve", "version": str, "extenstion": ["kserve", "kubeflow"]},
        ),
    ),
    Case("GET /v2/health/live", 200, {"live": True}),
    Case("GET /v2/health/ready", 200, {"ready": True}),
    Case("GET /v2/health", 404, NOT_FOUND),
    Case("GET /v2/models/shows/ready", 404, NOT_FOUND),
    Case(
        "POST /v2/models/shows/versions/1.0/infer",
        501,
        {"error": "Model versioning is not yet supported."},
    ),
    infers("POST /v2/models/shows/infer", X),
)
def test_settings_change_what_they_change_in_torchserve(configured, case):
    configured.check(case)


@pytest.mark.ours_only
@table(
    Case("GET /healthz/live", 200, {"status": "live"}, headers=JSON),
    Case("GET /healthz/ready", 200, {"status": "ready"}),
    Case("GET /healthz/ready/shows", 200, {"status": "ready"}),
    Case("GET /healthz/ready/shows/1.0", 200, {"status": "ready"}),
    Case("GET /healthz/ready/nobody", 404, NO_MODEL),
    Case(
        "GET /healthz/ready/shows",
        503,
        Subset(status="not ready", models=[Subset(model="shows", wanted_workers=0)]),
        before=[Case("PUT /models/shows?min_worker=0&synchronous=true", 200, port="management")],
        after=[Case("PUT /models/shows?min_worker=1&synchronous=true", 200, port="management")],
        title="readiness of a model without workers",
    ),
)
def test_there_is_an_honest_readiness_beside_ping(configured, case):
    configured.check(case)
