"""A result's buffers are cut at the announced sizes, and every failure becomes its error."""

import pytest

from marserve.errors import BadHandlerOutput, HandlerFailed, OutOfMemory, ResponseTooLarge
from marserve.request import Answer
from marserve.workers.messages import Extra, Failure, FailureKind, Result
from marserve.workers.replies import replies


def test_each_request_gets_its_own_share_in_order():
    made = Extra(201, "Made", [("X-A", "1")], None)
    result = Result(1, 0.1, [2, 0, 3], {2: made}, [])

    got = list(replies(result, memoryview(b"abcde")))

    assert got == [Answer(b"ab"), Answer(b""), Answer(b"cde", 201, "Made", [("X-A", "1")])]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FailureKind.RAISED, HandlerFailed),
        (FailureKind.BAD_OUTPUT, BadHandlerOutput),
        (FailureKind.OUT_OF_MEMORY, OutOfMemory),
        (FailureKind.TOO_LARGE, ResponseTooLarge),
    ],
)
def test_a_failure_becomes_an_error_with_its_message(kind, error):
    extra = Extra(500, None, [], Failure(kind, "because", 418))
    result = Result(1, 0.1, [1, 0], {1: extra}, [])

    fine, failed = replies(result, memoryview(b"a"))

    assert fine == Answer(b"a")
    assert isinstance(failed, error)
    assert failed.message == "because"
    assert getattr(failed, "status", 418) == 418


def test_every_kind_of_failure_has_an_error():
    kinds = {
        type(
            next(
                replies(
                    Result(1, 0, [0], {0: Extra(500, None, [], Failure(k, ""))}, []),
                    memoryview(b""),
                )
            )
        )
        for k in FailureKind
    }

    assert len(kinds) == len(FailureKind)
