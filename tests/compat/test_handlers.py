"""Handlers see, return and raise what TorchServe's handlers do."""

from __future__ import annotations

import io
import re
from http import HTTPStatus

import pytest
import torch
from contract import Case, Differs, Subset, error, story, table
from targets import Target

MULTIPART = "multipart/form-data; boundary=b"
URLENCODED = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def served(target: Target) -> Target:
    target.pack("shows", "shows.py")
    target.pack("acts", "acts.py")
    return target.start(load_models="shows.mar,acts.mar", job_queue_size=10)


# --- rows -----------------------------------------------------------------------------------------


def shows(row: dict[str, object], headers: dict[str, object] | None = None) -> Subset:
    seen: dict[str, object] = {"row": row}
    if headers is not None:
        seen["headers"] = Subset(headers)
    return Subset(seen)


def sends(body: bytes, content_type: str | None, row: dict[str, object], title: str) -> Case:
    return Case(
        "POST /predictions/shows",
        200,
        shows(row),
        sent=body,
        content_type=content_type,
        title=title,
    )


def form(*parts: tuple[str, bytes]) -> bytes:
    pieces = [f"--b\r\n{head}\r\n\r\n".encode() + body + b"\r\n" for head, body in parts]
    return b"".join(pieces) + b"--b--\r\n"


def file_part(name: str, content_type: str | None = None) -> str:
    head = f'Content-Disposition: form-data; name="{name}"; filename="f"'
    return head if content_type is None else f"{head}\r\nContent-Type: {content_type}"


@table(
    sends(b'{"a": [1, null]}', "application/json", {"body": ["dict", {"a": [1, None]}]}, "JSON"),
    sends(
        b"[1]", "application/json; charset=utf-8", {"body": ["list", [1]]}, "JSON with a parameter"
    ),
    sends(b"{broken", "application/json", {"body": ["bytearray", "{broken"]}, "broken JSON"),
    sends(b"", "application/json", {"body": ["bytearray", ""]}, "empty JSON"),
    sends(b"[1]", "APPLICATION/JSON", {"body": ["bytearray", "[1]"]}, "JSON in capitals"),
    sends("é".encode(), "text/plain; charset=latin-1", {"body": ["str", "é"]}, "text is UTF-8"),
    sends(b"\xff", "text/csv", {"body": ["bytearray", "\xff"]}, "text that is not UTF-8"),
    sends(b"\x00\xff", None, {"body": ["bytearray", "\x00\xff"]}, "no content type"),
    sends(b"x", "image/png", {"body": ["bytearray", "x"]}, "another content type"),
    sends(b"", None, {"body": ["bytearray", ""]}, "no body"),
    sends(
        form((file_part("data", "application/json"), b"[1]"), (file_part("b"), b"raw")),
        MULTIPART,
        {"data": ["list", [1]], "b": ["bytearray", "raw"]},
        "files of a form",
    ),
    sends(
        form(('Content-Disposition: form-data; name="a"\r\nContent-Type: text/plain', b"t")),
        MULTIPART,
        {"a": ["bytearray", "t"]},
        "a field of a form, whatever its type",
    ),
    sends(
        form((file_part("a", "text/plain"), b"1"), (file_part("a", "text/plain"), b"2")),
        MULTIPART,
        {"a": ["str", "2"]},
        "the last of a name",
    ),
    sends(
        b"a=1+2&b=%41",
        URLENCODED,
        {"a": ["bytearray", "1 2"], "b": ["bytearray", "A"]},
        "urlencoded",
    ),
    sends(b'{"a": 1}', URLENCODED, {}, "JSON that claims to be urlencoded"),
    Case("GET /predictions/shows", 200, shows({"body": ["bytearray", ""]})),
    Case(
        "POST /predictions/shows/1.0/a/b%20c?x=1",
        200,
        shows(
            {"body": ["bytearray", "bb"]},
            {
                "body": {"content-type": ""},
                "explain": "False",
                "X-Custom": "V",
                "url_path": "a/b c",
            },
        ),
        sent=b"bb",
        sent_headers={"X-Custom": "V"},
    ),
    Case("POST /explanations/shows", 200, Subset(headers=Subset(explain="True")), sent=b"x"),
)
def test_a_row_is_made_of_what_the_client_sent(served, case):
    served.check(case)


# --- results --------------------------------------------------------------------------------------

UNSUPPORTED = error(503, "InternalServerException", "Unsupported model output data type.")
SAYS_UNSUPPORTED = error(
    503, "InternalServerException", re.compile(r"Unsupported model output data type\. .+")
)


def returns(act: str, body: object, **more: object) -> Case:
    return Case(f"POST /predictions/acts/1.0/{act}", 200, body, sent=b"x", **more)


def unsupported(act: str) -> Case:
    return Case(
        f"POST /predictions/acts/1.0/{act}",
        503,
        SAYS_UNSUPPORTED,
        sent=b"x",
        differs=Differs("the reason is told as well", body=UNSUPPORTED),
    )


def numpy_is_fine(act: str, body: bytes) -> Case:
    return returns(
        act,
        body,
        differs=Differs("numpy values count as numbers and lists", status=503, body=UNSUPPORTED),
    )


@table(
    returns("object", b'{\n  "a": 1,\n  "u": "\\u00e9<>&"\n}', headers={"content-type": None}),
    returns("bytes", b"\x00raw"),
    returns("bytearray", b"raw"),
    returns("text", "é".encode()),
    returns("empty", b""),
    returns("none", b"null"),
    returns("nan", b"[\n  NaN,\n  Infinity\n]"),
    returns("tuple", b"[\n  1,\n  2\n]"),
    returns("int_keys", b'{\n  "1": "x"\n}'),
    returns("number", b"3"),
    numpy_is_fine("numpy", b"[\n  1,\n  2\n]"),
    numpy_is_fine("numpy_number", b"0.5"),
    numpy_is_fine("numpy_inside", b'{\n  "p": [\n    0.5\n  ]\n}'),
    unsupported("set"),
    unsupported("memoryview"),
    unsupported("bytes_inside"),
)
def test_a_result_becomes_a_body(served, case):
    served.check(case)


def test_a_tensor_is_sent_as_torch_saves_it(served):
    response = served.call(Case("POST /predictions/acts/1.0/tensor", 200, sent=b"x"))
    loaded = torch.load(io.BytesIO(response.body), weights_only=True)
    assert torch.equal(loaded, torch.tensor([1.5, 2.5]))


def fails(act: str, status: int, message: object, theirs: str | None = None) -> Case:
    differs = theirs and Differs(
        "the cause is told as well", body=error(status, "InternalServerException", theirs)
    )
    return Case(
        f"POST /predictions/acts/1.0/{act}",
        status,
        error(status, "InternalServerException", message),
        sent=b"x",
        differs=differs or None,
    )


@table(
    fails("error", 503, "Prediction failed: ValueError: no", "Prediction failed"),
    fails("memory", 507, re.compile("Out of resources.*")),
    fails("cuda", 507, re.compile("Out of resources.*")),
    fails("not_found", 404, "nothing here"),
    fails("no_message", 400, ""),
    fails("unknown_status", 599, "odd"),
    fails("too_large", 507, "much"),
    fails("default_status", 500, "why"),
    Case(
        "POST /predictions/acts/1.0/odd",
        418,
        error(418, "InternalServerException", "ArithmeticError: short and stout"),
        sent=b"x",
        differs=Differs(
            "any exception that has an error_code names its status",
            status=503,
            body=error(503, "InternalServerException", "Prediction failed"),
        ),
    ),
    fails(
        "not_a_list",
        503,
        "Invalid model predict output: the handler must return a list, not tuple",
        "Invalid model predict output",
    ),
    fails(
        "too_few",
        503,
        "number of batch response mismatched: the handler returned 0 results for 1 requests",
        "number of batch response mismatched",
    ),
    story(
        "the worker is there again after the handler has left",
        Case(
            "POST /predictions/acts/1.0/leaves",
            500,
            error(500, "InternalServerException", re.compile("Worker died.*", re.DOTALL)),
            sent=b"x",
        ),
        returns("number", b"3"),
    ),
)
def test_a_handler_that_fails_is_answered_for(served, case):
    served.check(case)


# --- statuses, headers ----------------------------------------------------------------------------


def sets(status: int, title: str, phrase: str | None = None, body: str = "") -> Case:
    asked = {"code": status, "body": body} | ({} if phrase is None else {"phrase": phrase})
    usual = phrase is None and Differs("the usual phrase is told", phrase="")
    return Case(
        "POST /predictions/acts/1.0/status",
        status,
        body,
        sent=asked,
        phrase=HTTPStatus(status).phrase if phrase is None else phrase,
        title=title,
        differs=usual or None,
    )


@table(
    sets(201, "a status without a phrase", body="made"),
    sets(404, "an error with a body of its own", body="nothing"),
    sets(599, "an unknown status with a phrase", phrase="x"),
    Case(
        "POST /predictions/acts/1.0/status",
        200,
        "x",
        sent={"code": 200, "body": "x", "headers": {"X-Model": "v"}},
        headers={"X-Model": "v"},
        title="a header",
    ),
    Case(
        "POST /predictions/acts/1.0/status",
        503,
        error(503, "InternalServerException", re.compile("Prediction failed: TypeError: .*int.*")),
        sent={"code": 200, "headers": {"X-Model": 3}},
        title="a header that is no text",
        differs=Differs(
            "one request fails, and no worker dies",
            status=500,
            body=error(500, "InternalServerException", "Worker died."),
        ),
    ),
    returns("content_type", b"a,b", headers={"content-type": "text/csv"}),
    Case(
        "POST /predictions/acts/1.0/all_statuses",
        202,
        [202, "later"],
        sent=b"x",
        phrase="later",
    ),
    Case(
        "POST /predictions/acts/1.0/sequence",
        200,
        ["s1", "ts_request_sequence_end"],
        sent=b"x",
        sent_headers={"ts_request_sequence_id": "s1"},
    ),
    returns(
        "loads",
        {
            "request_ids": None,
            "request_processor": None,
            "has_socket": False,
            "id": None,
            "config": {},
            "server_name": "MMS",
            "batch_size": 1,
            "gpu_id": None,
            "model": "acts",
        },
    ),
    returns("metrics", ["Fill", "HandlerTime", "PredictionTime"]),
)
def test_a_handler_says_how_it_is_answered(served, case):
    served.check(case)


# --- streaming ------------------------------------------------------------------------------------


def test_pieces_come_as_chunks_and_the_result_is_the_last(served):
    request = (
        b"POST /predictions/acts/1.0/streams HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n"
        b"Connection: close\r\n\r\nx"
    )
    head, _, body = served.exchange("inference", request, patience_s=1).partition(b"\r\n\r\n")
    headers = head.lower().split(b"\r\n")
    assert b"ts_stream_next: true" in headers
    assert b"transfer-encoding: chunked" in headers
    pieces = (b"one ", b"two ", b'{\n  "three": 3\n}', b"end", b"")
    assert body == b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


# --- envelopes ------------------------------------------------------------------------------------

FAILED = error(503, "InternalServerException", "Prediction failed")


def enveloped(sent: object, status: int, body: object, **more: object) -> Case:
    return Case("POST /predictions/gets", status, body, sent=sent, **more)


def refused(sent: object, message: object, **more: object) -> Case:
    return enveloped(
        sent,
        400,
        error(400, "InternalServerException", message),
        differs=Differs("the client's mistake is told to the client", status=503, body=FAILED),
        **more,
    )


ENVELOPES = {
    "body": story(
        "body",
        enveloped("x", 200, ["str", "x"], content_type="text/plain"),
        enveloped({"a": 1}, 200, ["dict", {"a": 1}]),
    ),
    "json": story(
        "json",
        enveloped({"instances": [1, "a"]}, 200, '{"predictions": [["int", 1], ["str", "a"]]}'),
        enveloped({"instances": [{"b64": "YWI="}]}, 200, '{"predictions": [["bytes", "ab"]]}'),
        enveloped(
            {"instances": [{"c": {"b64": "YQ=="}, "d": 2}]},
            200,
            '{"predictions": [["dict", {"c": ["bytes", "a"], "d": ["int", 2]}]]}',
        ),
        refused({"inputs": [1]}, 'The body has no list "instances".'),
        refused([1], "The body is a JSON object here, not array."),
        refused(b"raw", re.compile("The body is not JSON: .*")),
    ),
    "kserve": story(
        "kserve",
        enveloped(
            {"instances": [1]},
            200,
            b'{\n  "predictions": [\n    [\n      "int",\n      1\n    ]\n  ]\n}',
        ),
        enveloped(b'{"instances": [1]}', 200, {"predictions": [["int", 1]]}),
        Case(
            "POST /explanations/gets",
            200,
            {"explanations": [["int", 1]]},
            sent={"instances": [1]},
        ),
        refused([1], "The body is a JSON object here, not array."),
        refused(b"raw", re.compile("The body is not JSON: .*")),
    ),
    "kservev2": story(
        "kservev2",
        enveloped(
            {
                "id": "q",
                "inputs": [
                    {"name": "a", "shape": [2, 1], "datatype": "INT64", "data": [1, 2]},
                    {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["t"]},
                ],
            },
            200,
            {
                "id": "q",
                "model_name": "gets",
                "model_version": "1.0",
                "outputs": [
                    {"name": "a", "datatype": "INT64", "data": [1, 2], "shape": [2]},
                    {"name": "b", "datatype": "BYTES", "data": ["t"], "shape": [1]},
                ],
            },
        ),
        enveloped(
            {"inputs": [{"name": "a", "shape": [1], "datatype": "FP32", "data": [1.5]}]},
            200,
            {
                "id": str,
                "model_name": "gets",
                "model_version": "1.0",
                "outputs": [{"name": "a", "datatype": "FP64", "data": [1.5], "shape": [1]}],
            },
        ),
        refused({}, 'The body has no list "inputs".'),
        refused(b"raw", re.compile("The body is not JSON: .*")),
        refused(
            {"inputs": [{"name": "a", "shape": [3], "datatype": "FP32", "data": [1]}]},
            re.compile(r"data of input 0 does not have the shape \[3\]: .*"),
        ),
    ),
}


@pytest.fixture(scope="module", params=ENVELOPES, ids=str)
def in_envelope(make_target, request) -> tuple[Target, str]:
    target = make_target()
    target.pack("gets", "gets.py")
    target.start(load_models="gets.mar", service_envelope=request.param)
    yield target, request.param
    target.end()


def test_an_envelope_stands_between_client_and_handler(in_envelope):
    target, name = in_envelope
    target.check(ENVELOPES[name])
