"""Every error has a gRPC status, and clients written for TorchServe know it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve import errors
from marserve.errors import Kind, MarServeError
from marserve.protocols.grpc_status import (
    MAX_DESCRIPTION_BYTES,
    CallRefused,
    Code,
    Failure,
    Plane,
    code_of,
    failure,
)

KINDS = [kind for kind in Kind if kind is not Kind.BUG]


def of_kind(kind):
    error = MarServeError("a sentence")
    error.kind = kind
    return error


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *[(200, Code.OK), (204, Code.OK), (299, Code.OK)],
        *[(400, Code.INVALID_ARGUMENT), (401, Code.UNAUTHENTICATED), (403, Code.PERMISSION_DENIED)],
        *[(404, Code.NOT_FOUND), (409, Code.ABORTED), (413, Code.RESOURCE_EXHAUSTED)],
        *[(416, Code.OUT_OF_RANGE), (429, Code.RESOURCE_EXHAUSTED), (499, Code.CANCELLED)],
        *[(501, Code.UNIMPLEMENTED), (503, Code.UNAVAILABLE), (504, Code.DEADLINE_EXCEEDED)],
        *[(418, Code.FAILED_PRECONDITION), (500, Code.INTERNAL), (507, Code.INTERNAL)],
        *[(302, Code.UNKNOWN), (0, Code.UNKNOWN), (999, Code.UNKNOWN)],
    ],
)
def test_http_statuses_have_the_codes_that_torchserve_gives_them(status, code):
    assert code_of(status) is code


@pytest.mark.parametrize("plane", Plane)
@pytest.mark.parametrize("kind", KINDS)
def test_no_error_is_ok_or_unknown(plane, kind):
    told = failure(of_kind(kind), plane)
    assert told.code not in (Code.OK, Code.UNKNOWN)
    assert told.message == "a sentence"
    assert told.http_status >= 400


@pytest.mark.parametrize(
    ("kind", "prediction", "control"),
    [
        (Kind.INVALID_INPUT, Code.INVALID_ARGUMENT, Code.INVALID_ARGUMENT),
        (Kind.MODEL_NOT_FOUND, Code.INTERNAL, Code.NOT_FOUND),
        (Kind.VERSION_NOT_FOUND, Code.INTERNAL, Code.NOT_FOUND),
        (Kind.NO_WORKERS, Code.INTERNAL, Code.UNAVAILABLE),
        (Kind.QUEUE_FULL, Code.UNAVAILABLE, Code.UNAVAILABLE),
        (Kind.SHED, Code.UNAVAILABLE, Code.UNAVAILABLE),
        (Kind.QUOTA_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.RESOURCE_EXHAUSTED),
        (Kind.MEMORY_LOW, Code.RESOURCE_EXHAUSTED, Code.RESOURCE_EXHAUSTED),
        (Kind.SEQUENCE_REFUSED, Code.INTERNAL, Code.UNAVAILABLE),
        (Kind.NO_JOB_TICKET, Code.INTERNAL, Code.UNAVAILABLE),
        (Kind.HANDLER_FAILED, Code.UNAVAILABLE, Code.UNAVAILABLE),
        (Kind.WORKER_DIED, Code.INTERNAL, Code.INTERNAL),
        (Kind.OUT_OF_MEMORY, Code.INTERNAL, Code.INTERNAL),
        (Kind.DEADLINE_EXCEEDED, Code.DEADLINE_EXCEEDED, Code.DEADLINE_EXCEEDED),
        (Kind.VERSION_CONFLICT, Code.ALREADY_EXISTS, Code.ALREADY_EXISTS),
        (Kind.DEFAULT_VERSION_IN_USE, Code.FAILED_PRECONDITION, Code.FAILED_PRECONDITION),
        (Kind.TOKEN_MISSING, Code.UNAUTHENTICATED, Code.UNAUTHENTICATED),
        (Kind.TOKEN_REFUSED, Code.PERMISSION_DENIED, Code.PERMISSION_DENIED),
    ],
)
def test_the_same_error_may_have_another_code_in_another_service(kind, prediction, control):
    assert failure(of_kind(kind), Plane.PREDICTION).code is prediction
    assert failure(of_kind(kind), Plane.CONTROL).code is control


def test_a_handlers_own_status_decides_its_code():
    told = failure(errors.HandlerFailed("gone", 404), Plane.PREDICTION)
    reason = "org.pytorch.serve.http.InternalServerException"
    assert told == Failure(Code.NOT_FOUND, "gone", reason, 404)
    assert told.description == f"gone\n{reason}"


def test_tokens_are_told_as_by_torchserve_on_demand():
    for error in (errors.TokenMissing, errors.TokenRefused):
        told = failure(error("No.", as_400=True), Plane.CONTROL)
        assert (told.code, told.description) == (Code.PERMISSION_DENIED, "No.")


def test_a_failure_that_was_decided_stays_as_it_is():
    decided = Failure(Code.ABORTED, "as said")
    assert failure(CallRefused(decided), Plane.CONTROL) is decided


def test_what_is_unforeseen_is_internal_and_hides_what_it_is(caplog):
    told = failure(KeyError("secret"), Plane.PREDICTION)
    assert told.code is Code.INTERNAL
    assert "secret" not in told.description
    assert caplog.records[0].message.startswith("Incident ")


@given(st.text(alphabet=st.characters(), max_size=5000), st.text(max_size=20))
def test_a_description_is_always_short_and_can_be_sent(message, reason):
    description = Failure(Code.INTERNAL, message, reason).description
    assert len(description.encode("utf-8")) <= MAX_DESCRIPTION_BYTES


def test_a_short_description_is_whole_and_a_long_one_shows_that_it_is_not():
    assert Failure(Code.INTERNAL, "é\ud800").description == "é?"
    long = Failure(Code.INTERNAL, "é" * 5000).description
    assert long.endswith("é...")
    assert len(long.encode()) > MAX_DESCRIPTION_BYTES - 5
