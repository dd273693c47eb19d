"""The management service's messages mean what the same HTTP parameters mean."""

import pytest

from marserve.errors import InvalidInput
from marserve.protocols.grpc_management import document, page, registration, scaling, sentence
from marserve.protocols.management import Page, Registration, Scaling
from marserve.protocols.pb.management_pb2 import (
    ListModelsRequest,
    RegisterModelRequest,
    ScaleWorkerRequest,
)


def test_fields_that_are_not_set_count_as_not_given():
    asked = registration(RegisterModelRequest(url="a.mar"))
    assert asked == Registration(url="a.mar", synchronous=False)


def test_fields_that_are_set_are_the_parameters_of_the_http_api():
    asked = registration(
        RegisterModelRequest(
            url="a.mar",
            model_name="m",
            handler="h.py",
            runtime="python3",
            batch_size=4,
            max_batch_delay=50,
            initial_workers=2,
            response_timeout=3,
            startup_timeout=5,
            synchronous=True,
        )
    )
    assert asked == Registration(
        url="a.mar",
        model_name="m",
        handler="h.py",
        runtime="python3",
        batch_size=4,
        max_batch_delay_ms=50,
        initial_workers=2,
        response_timeout_s=3,
        startup_timeout_s=5,
        synchronous=True,
    )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (RegisterModelRequest(), "Parameter url is required."),
        (RegisterModelRequest(url="a", batch_size=-1), "batch_size"),
        (RegisterModelRequest(url="a", runtime="perl"), "Invalid RuntimeType value: perl"),
    ],
)
def test_a_registration_that_makes_no_sense_is_refused(asked, message):
    with pytest.raises(InvalidInput, match=message):
        registration(asked)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (ScaleWorkerRequest(), Scaling(None, 1, None, False)),
        (ScaleWorkerRequest(min_worker=-3, max_worker=-1), Scaling(None, 1, None, False)),
        (
            ScaleWorkerRequest(model_version="2.0", min_worker=2, max_worker=3, synchronous=True),
            Scaling("2.0", 2, 3, True),
        ),
    ],
)
def test_a_scaling_has_at_least_one_worker(asked, expected):
    assert scaling(asked) == expected


def test_a_scaling_that_contradicts_itself_is_refused():
    with pytest.raises(InvalidInput, match="max_worker"):
        scaling(ScaleWorkerRequest(min_worker=3, max_worker=2))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (ListModelsRequest(), Page(0, 100)),
        (ListModelsRequest(limit=7, next_page_token=3), Page(3, 7)),
        (ListModelsRequest(limit=-1, next_page_token=3), Page(3, 2**31 - 1)),
    ],
)
def test_a_page_begins_at_its_token(asked, expected):
    assert page(asked) == expected


def test_answers_are_the_texts_of_the_http_api():
    assert sentence((202, {"status": "Processing."})).msg == "Processing."
    assert document((200, [{"a": "ü"}])).msg == '[\n  {\n    "a": "ü"\n  }\n]'
