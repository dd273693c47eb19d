"""Every kind of error has one look, and an unforeseen one shows nothing of itself."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve import errors
from marserve.errors import Kind
from marserve.protocols.faults import ROWS, Fault, fault, fault_body, torchserve_json


def test_every_kind_has_exactly_one_row():
    assert set(ROWS) == set(Kind)
    assert len(ROWS) == len(Kind)


def test_every_row_is_an_error_status_with_a_torchserve_like_type():
    for kind, row in ROWS.items():
        assert 400 <= row.status <= 599, kind
        assert row.type.endswith("Exception"), kind


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            errors.InvalidInput("Parameter url is required."),
            Fault(400, "BadRequestException", "Parameter url is required."),
        ),
        (
            errors.ModelNotFound("resnet"),
            Fault(404, "ModelNotFoundException", "Model not found: resnet"),
        ),
        (
            errors.VersionNotFound("m", "9"),
            Fault(
                404,
                "ModelVersionNotFoundException",
                "Model version: 9 does not exist for model: m",
            ),
        ),
        (
            errors.RouteNotFound(),
            Fault(
                404,
                "ResourceNotFoundException",
                "Requested resource is not found, please refer to API document.",
            ),
        ),
        (
            errors.MethodNotAllowed(),
            Fault(
                405,
                "MethodNotAllowedException",
                "Requested method is not allowed, please refer to API document.",
            ),
        ),
        (
            errors.VersionConflict("m", "1.0"),
            Fault(
                409,
                "ConflictStatusException",
                "Model version 1.0 is already registered for model m",
            ),
        ),
        (
            errors.DefaultVersionInUse("m"),
            Fault(403, "InvalidModelVersionException", "Cannot remove default version for model m"),
        ),
        (
            errors.StoreMissing(),
            Fault(404, "ModelNotFoundException", "Model store has not been configured."),
        ),
        (
            errors.ArchiveRefused("a.mar has no manifest."),
            Fault(400, "InvalidModelException", "a.mar has no manifest."),
        ),
        (
            errors.BadHandlerOutput("3 results for 4 requests."),
            Fault(503, "InternalServerException", "3 results for 4 requests."),
        ),
        (
            errors.OutOfMemory("Out of resources"),
            Fault(507, "InternalServerException", "Out of resources"),
        ),
        (
            errors.WorkerDied("Worker died."),
            Fault(500, "InternalServerException", "Worker died."),
        ),
        (
            errors.StateNotSaved("The disk is full."),
            Fault(507, "InternalServerException", "The disk is full."),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_deliberate_error_is_told_as_it_is(error, expected):
    assert fault(error) == expected


def test_a_full_queue_says_when_to_come_back():
    got = fault(errors.QueueFull("m", 100, retry_after_s=3))
    assert (got.status, got.type, got.retry_after_s) == (503, "ServiceUnavailableException", 3)
    assert fault(errors.NoWorkers("m", None)).retry_after_s is None


@pytest.mark.parametrize(
    ("asked", "answered"),
    [(None, 503), (400, 400), (404, 404), (418, 418), (599, 599), (413, 507)]
    + [(status, 500) for status in (-1, 0, 100, 200, 302, 399, 600, 9999)],
)
def test_a_handler_chooses_among_the_error_statuses(asked, answered):
    got = fault(errors.HandlerFailed("no such class", asked))
    assert got == Fault(answered, "InternalServerException", "no such class")


@pytest.mark.parametrize("error", [ValueError("secret: /srv/key"), errors.Bug("secret: /srv/key")])
def test_the_unforeseen_shows_only_a_number_that_the_log_has_too(error, caplog):
    with caplog.at_level(logging.ERROR, logger="marserve.faults"):
        got = fault(error)
    number = got.message.rsplit(" ", 1)[1].rstrip(".")
    assert (got.status, got.type) == (500, "InternalServerException")
    assert "secret" not in got.message
    assert number in caplog.text
    assert "secret: /srv/key" in caplog.text


def test_two_incidents_have_two_numbers():
    assert fault(KeyError()).message != fault(KeyError()).message


def test_the_body_is_printed_as_torchserve_prints_it():
    assert (
        fault_body(Fault(404, "ModelNotFoundException", 'Model not found: <"é">'))
        == (
            "{\n"
            '  "code": 404,\n'
            '  "type": "ModelNotFoundException",\n'
            '  "message": "Model not found: <\\"é\\">"\n'
            "}\n"
        ).encode()
    )


@given(st.text('aé"\\/\x00\n\x1b\x85\u2028\udc80😀', max_size=50))
def test_any_message_makes_valid_json_that_says_the_same(message):
    assert json.loads(fault_body(Fault(500, "T", message)).decode())["message"] == message


def test_empty_lists_and_objects_stay_on_one_line():
    assert torchserve_json({"models": [], "more": {}}) == b'{\n  "models": [],\n  "more": {}\n}\n'


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.TokenMissing("no token"), (401, "InvalidKeyException")),
        (errors.TokenRefused("wrong token"), (403, "InvalidKeyException")),
        (errors.TokenMissing("no token", as_400=True), (400, "InvalidKeyException")),
        (errors.TokenRefused("wrong token", as_400=True), (400, "InvalidKeyException")),
    ],
)
def test_refused_tokens_have_torchserves_status_where_that_is_asked(error, expected):
    told = fault(error)
    assert (told.status, told.type) == expected


@given(
    st.text('aé"\\/\x00\n\x1b\x85\u2028\udc80😀', max_size=50), st.sampled_from([None, "memory"])
)
def test_an_errors_body_is_printed_as_any_other_document(message, reason):
    document = {"code": 507, "type": "T", "message": message}
    if reason is not None:
        document["reason"] = reason
    assert fault_body(Fault(507, "T", message, reason=reason)) == torchserve_json(document)


@pytest.mark.parametrize(
    ("error", "status", "reason", "retry_after_s"),
    [
        (errors.QueueFull("m", 1, 2), 503, "queue_full", 2),
        (errors.QueueBytesFull("m", 1, 2), 503, "queue_bytes", 2),
        (errors.NoWorkers("m", None), 503, "no_workers", None),
        (errors.NoWorkers("m", None, "no file", retry_after_s=6), 503, "no_workers", 6),
        (errors.NoWorkers("m", None, purpose="describe"), 503, None, None),
        (errors.DeadlineUnreachable("late"), 504, "deadline_unreachable", None),
        (errors.DeadlineExceeded("late"), 504, None, None),
        (errors.MemoryLow(1, 2), 507, "memory", 2),
        (errors.Shed("gone", 2), 503, "shedding", 2),
        (errors.QuotaExceeded(1.0, 2), 429, "quota", 2),
        (errors.NoJobTicket("busy", 2), 503, "no_ticket", 2),
        (errors.ShuttingDown("bye"), 503, "closing", 1),
    ],
)
def test_what_is_not_served_says_why_in_a_word_and_when_to_come_back(
    error, status, reason, retry_after_s
):
    got = fault(error)
    assert (got.status, got.reason, got.retry_after_s) == (status, reason, retry_after_s)
    assert json.loads(fault_body(got)).get("reason") == reason
