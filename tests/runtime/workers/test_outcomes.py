"""What a handler's results and exceptions become on the way to the server."""

import pytest

from marserve.workers.frames import LARGE_BYTES
from marserve.workers.messages import FailureKind
from marserve.workers.outcomes import (
    complaint,
    encoded,
    leave_with_lost_device,
    raised,
    sentence,
    told_metrics,
)
from marserve_handlers.contract import Context
from marserve_handlers.metrics import MetricSample

LIMIT = 100


def context(size=2):
    made = Context(model_name="m", model_dir="/m", manifest={}, batch_size=size)
    made.begin_batch([str(index) for index in range(size)], [{} for _ in range(size)])
    return made


def test_a_plain_result_is_a_body_and_nothing_else():
    assert encoded("é", 0, context(), LIMIT) == ("é".encode(), None)


def test_large_bytes_that_can_change_are_sent_from_where_they_are():
    output = bytearray(LARGE_BYTES)
    body, extra = encoded(output, 0, context(), LARGE_BYTES)

    assert isinstance(body, memoryview)
    assert (body.obj, extra) == (output, None)
    _, refused = encoded(output, 0, context(), LARGE_BYTES - 1)
    assert refused.failure.kind is FailureKind.TOO_LARGE
    assert encoded(output[1:], 0, context(), LARGE_BYTES) == (bytes(LARGE_BYTES - 1), None)


def test_status_phrase_and_headers_belong_to_one_result():
    here = context()
    here.set_response_status(404, "Gone", idx=1)
    here.set_response_header(1, "X-Label", "a")

    assert encoded(b"a", 0, here, LIMIT) == (b"a", None)
    body, extra = encoded(b"b", 1, here, LIMIT)
    assert (body, extra.status, extra.phrase, extra.headers, extra.failure) == (
        b"b",
        404,
        "Gone",
        [("X-Label", "a")],
        None,
    )


@pytest.mark.parametrize(
    ("output", "kind", "words"),
    [
        ({1, 2}, FailureKind.BAD_OUTPUT, "set"),
        (b"x" * (LIMIT + 1), FailureKind.TOO_LARGE, "max_response_size"),
    ],
)
def test_a_result_that_cannot_be_sent_is_a_failure_of_that_request(output, kind, words):
    body, extra = encoded(output, 0, context(), LIMIT)

    assert (body, extra.failure.kind) == (b"", kind)
    assert words in extra.failure.message


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (None, "not NoneType"),
        (("a", "b"), "not tuple"),
        ([], "returned 0 results for 2 requests"),
        (["a"], "returned 1 results for 2 requests"),
    ],
)
def test_a_result_of_the_wrong_shape_is_described(outputs, words):
    assert words in complaint(outputs, 2)


def test_one_result_per_request_is_no_complaint():
    assert complaint(["a", "b"], 2) is None


class Asking(Exception):
    def __init__(self, message, error_code):
        super().__init__(message)
        self.message = message
        self.error_code = error_code


@pytest.mark.parametrize(
    ("error", "kind", "message", "status"),
    [
        (ValueError("no"), FailureKind.RAISED, "Prediction failed: ValueError: no", None),
        (ValueError(), FailureKind.RAISED, "Prediction failed: ValueError", None),
        (Asking("too hot", 418), FailureKind.RAISED, "too hot", 418),
        (Asking("", 400), FailureKind.RAISED, "", 400),
        (Asking("odd", True), FailureKind.RAISED, "Prediction failed: Asking: odd", None),
        (Asking("odd", 1000), FailureKind.RAISED, "Prediction failed: Asking: odd", None),
        (
            MemoryError("1 GB"),
            FailureKind.OUT_OF_MEMORY,
            "Out of resources: MemoryError: 1 GB",
            None,
        ),
        (
            RuntimeError("CUDA out of memory"),
            FailureKind.OUT_OF_MEMORY,
            "Out of resources: RuntimeError: CUDA out of memory",
            None,
        ),
    ],
)
def test_an_exception_is_a_kind_and_a_sentence(error, kind, message, status):
    body, extra = raised(error)

    assert body == b""
    assert (extra.failure.kind, extra.failure.message) == (kind, message)
    assert extra.failure.status == status


def test_an_exception_that_cannot_say_its_text_is_called_by_its_name():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    assert sentence(Mute()) == "Mute"


def test_figures_that_cannot_be_told_are_left_out(capsys):
    good = MetricSample("a", 1.5, "ms", "gauge", {"k": "v"})
    bad = MetricSample("b", "much", "ms", "gauge", {})

    told = told_metrics([good, bad])

    assert [(m.name, m.value, m.dimensions) for m in told] == [("a", 1.5, {"k": "v"})]
    assert "A metric was dropped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), True),
        (RuntimeError("HIP error: unspecified launch failure"), True),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), False),
        (RuntimeError("CUDA error: invalid argument"), False),
        (RuntimeError("an illegal instruction in the recipe"), False),
        (ValueError("CUDA error: an illegal memory access was encountered"), False),
        (MemoryError(), False),
    ],
)
def test_a_process_leaves_when_its_device_is_lost_to_it(error, is_lost, capsys):
    left = False
    try:
        leave_with_lost_device(error)
    except SystemExit:
        left = True

    assert left is is_lost
    assert ("another takes over" in capsys.readouterr().err) is is_lost
