import pytest

from marserve_handlers.errors import (
    HandlerError,
    HandlerLoadFailed,
    HandlerNotFound,
    MetricsCacheKeyError,
    MetricsCacheValueError,
    PredictionException,
    UnsupportedOutput,
)


def test_a_deliberate_answer_has_message_and_status():
    error = PredictionException("not today", 418)
    assert (error.message, error.error_code, str(error)) == ("not today", 418, "not today : 418")
    assert PredictionException("x").error_code == 500


def test_a_deliberate_answer_is_no_error_of_ours():
    assert not issubclass(PredictionException, HandlerError)


@pytest.mark.parametrize(
    "error",
    [
        HandlerNotFound("x"),
        HandlerLoadFailed("x"),
        UnsupportedOutput("x"),
        MetricsCacheKeyError("x"),
        MetricsCacheValueError("x"),
    ],
)
def test_all_our_errors_are_handler_errors(error):
    assert isinstance(error, HandlerError)


def test_a_missing_handler_carries_its_name():
    error = HandlerNotFound("resnet", " Ask for help.")
    assert error.name == "resnet"
    assert str(error).endswith("no installed handler has this name. Ask for help.")
