"""TorchServe's inference service over a real socket, with a real client."""

import asyncio
import json

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from grpc_server import refused, run, serving

from marserve import errors
from marserve.protocols.pb.inference_pb2 import PredictionsRequest
from marserve.request import Answer

INTERNAL = grpc.StatusCode.INTERNAL


def request(model="echo", **given):
    return PredictionsRequest(model_name=model, **given)


@pytest.mark.parametrize(("healthy", "word"), [(True, "Healthy"), (False, "Unhealthy")])
def test_ping_says_how_the_models_are_and_never_fails(healthy, word):
    async def main():
        async with serving() as served:
            served.data.healthy = healthy
            answer = await served.inference.Ping(Empty())
            assert answer.health == f'{{\n  "status": "{word}"\n}}'

    run(main())


def test_a_prediction_reaches_the_handler_as_named_bytes_and_comes_back():
    async def main():
        async with serving() as served:
            answer = await served.inference.Predictions(
                request(input={"data": b"\x00\xff"}, model_version="1.0")
            )
            assert answer.prediction == b"\x00\xff"
            assert not answer.HasField("status")
            ((name, version, asked),) = served.data.asked
            assert (name, version) == ("echo", "1.0")
            assert asked.parts == [("data", "", b"\x00\xff")]
            assert (asked.headers, asked.explain, asked.url_path) == ([], None, None)

    run(main())


def test_no_version_means_the_default_one_and_no_input_an_empty_row():
    async def main():
        async with serving() as served:
            assert (await served.inference.Predictions(request())).prediction == b""
            ((_, version, asked),) = served.data.asked
            assert version is None
            assert asked.parts == []

    run(main())


def test_what_a_handler_says_of_status_and_headers_is_no_concern_of_grpc():
    async def main():
        async with serving() as served:
            served.data.models["odd"] = lambda _: Answer(b"x", 503, "No", [("a", "b")])
            assert (await served.inference.Predictions(request("odd"))).prediction == b"x"

    run(main())


MODEL_NOT_FOUND = "org.pytorch.serve.archive.model.ModelNotFoundException"
VERSION_NOT_FOUND = "org.pytorch.serve.archive.model.ModelVersionNotFoundException"


@pytest.mark.parametrize("method", ["Predictions", "StreamPredictions"])
@pytest.mark.parametrize(
    ("asked", "description"),
    [
        (request(""), "Parameter model_name is required.\nBadRequestException.()"),
        (request("no"), f"Model not found: no\n{MODEL_NOT_FOUND}"),
        (
            request(model_version="9"),
            f"Model version: 9 does not exist for model: echo\n{VERSION_NOT_FOUND}",
        ),
        (
            request("idle"),
            f"{errors.NoWorkers('idle', None).message}\nInternalServerException.()",
        ),
    ],
)
def test_what_is_not_taken_is_refused_in_torchserves_words(method, asked, description):
    async def main():
        async with serving() as served:
            served.data.refuses["idle"] = errors.NoWorkers("idle", None)
            call = getattr(served.inference, method)(asked)
            if method == "StreamPredictions":
                call = anext(aiter(call))
            assert await refused(call) == (INTERNAL, description)

    run(main())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.HandlerFailed("Prediction failed"), grpc.StatusCode.UNAVAILABLE),
        (errors.HandlerFailed("no", 404), grpc.StatusCode.NOT_FOUND),
        (errors.HandlerFailed("no", 418), grpc.StatusCode.FAILED_PRECONDITION),
        (errors.HandlerFailed("no", 429), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.OutOfMemory("Out of resources"), INTERNAL),
        (errors.WorkerDied("Worker died."), INTERNAL),
        (errors.DeadlineExceeded("too late"), grpc.StatusCode.DEADLINE_EXCEEDED),
        (errors.ShuttingDown("The model was unloaded."), grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_what_goes_wrong_in_a_worker_has_the_code_of_its_http_status(error, code):
    async def main():
        def fails(_request):
            raise error

        async with serving() as served:
            served.data.models["bad"] = fails
            description = f"{error.message}\norg.pytorch.serve.http.InternalServerException"
            assert await refused(served.inference.Predictions(request("bad"))) == (
                code,
                description,
            )

    run(main())


def test_a_description_that_is_too_long_for_clients_is_shortened():
    async def main():
        def fails(_request):
            raise errors.HandlerFailed("ü" * 100_000)

        async with serving() as served:
            served.data.models["bad"] = fails
            code, description = await refused(served.inference.Predictions(request("bad")))
            assert code is grpc.StatusCode.UNAVAILABLE
            assert description.startswith("üüü")
            assert description.endswith("...")

    run(main())


def test_pieces_are_messages_of_their_own_and_arrive_while_the_handler_goes_on():
    async def main():
        async with serving() as served:
            call = served.inference.StreamPredictions(request("quiet"))
            job = await served.data.jobs.get()
            job.stream(Answer(b"one"))
            assert (await call.read()).prediction == b"one"
            job.stream(Answer(b"two"))
            assert (await call.read()).prediction == b"two"
            job.resolve(Answer(b""))
            assert (await call.read()).prediction == b""
            assert await call.read() is grpc.aio.EOF
            assert await call.code() is grpc.StatusCode.OK

    run(main())


def test_a_handler_that_does_not_stream_makes_one_message_and_ok():
    async def main():
        async with serving() as served:
            call = served.inference.StreamPredictions(request(input={"a": b"x"}))
            assert [message.prediction async for message in call] == [b"x"]
            assert await call.code() is grpc.StatusCode.OK

    run(main())


def test_pieces_of_a_prediction_that_is_not_streamed_are_joined():
    async def main():
        async with serving() as served:
            call = served.inference.Predictions(request("quiet"))
            job = await served.data.jobs.get()
            job.stream(Answer(b"one "))
            job.resolve(Answer(b"two"))
            assert (await call).prediction == b"one two"

    run(main())


def test_an_error_after_a_piece_ends_the_call_with_it():
    async def main():
        async with serving() as served:
            call = served.inference.StreamPredictions(request("quiet"))
            job = await served.data.jobs.get()
            job.stream(Answer(b"one"))
            job.resolve(errors.WorkerDied("Worker died."))
            assert (await call.read()).prediction == b"one"
            code, _ = await refused(call.read())
            assert code is INTERNAL

    run(main())


def test_a_client_that_reads_too_slowly_is_cut_and_its_job_abandoned():
    async def main():
        async with serving() as served:
            call = served.inference.StreamPredictions(request("quiet"))
            job = await served.data.jobs.get()
            piece = Answer(bytes(1 << 20))
            pieces = 0
            while job.is_open:
                job.stream(piece)
                pieces += 1
                assert pieces < 200
            assert pieces > 60
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                async for _message in call:
                    pass
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    run(main())


@pytest.mark.parametrize("method", ["Predictions", "StreamPredictions"])
def test_a_cancelled_call_abandons_its_job_and_counts_as_one_whose_client_left(method):
    async def main():
        async with serving() as served:
            call = getattr(served.inference, method)(request("quiet"))
            job = await served.data.jobs.get()
            assert job.is_open
            call.cancel()
            assert await served.codes(1) == [1]
            assert not job.is_open
            job.resolve(Answer(b"too late"))
            assert [event.status for event in served.predictions] == [499]

    run(main())


def test_a_deadline_that_passes_is_told_as_such_and_abandons_the_job():
    async def main():
        async with serving() as served:
            call = served.inference.Predictions(request("quiet"), timeout=1.0)
            job = await served.data.jobs.get()
            assert job.deadline is not None
            assert 0.5 < job.deadline - job.queued_at <= 1.0
            code, _ = await refused(call)
            assert code is grpc.StatusCode.DEADLINE_EXCEEDED
            # the client's cancellation may be here long before our own clock says so
            assert await served.codes(1) in ([1], [4])
            assert not job.is_open

    run(main())


@pytest.mark.parametrize("metadata", [(), (("x-no-retry", "1"),)])
def test_a_call_that_must_not_be_retried_says_so_as_a_request_over_http_does(metadata):
    async def main():
        async with serving() as served:
            await served.inference.Predictions(request(), metadata=metadata)
            [(_, _, asked)] = served.data.asked
            assert [tuple(pair) for pair in asked.headers] == list(metadata)

    run(main())


def test_each_prediction_is_told_to_the_bus_once_with_the_method_and_the_peer():
    async def main():
        async with serving() as served:
            await served.inference.Predictions(request())
            await refused(served.inference.Predictions(request("no", model_version="3")))
            await served.codes(2)
            told = [
                (event.name, event.version, event.status, event.origin.method, event.origin.path)
                for event in served.predictions
            ]
            path = "org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
            assert told == [("echo", None, 200, "gRPC", path), ("no", "3", 404, "gRPC", path)]
            assert [(event.origin.path, event.code) for event in served.calls] == [
                (path, 0),
                (path, 13),
            ]
            host, _, number = served.calls[0].origin.client.rpartition(":")
            assert (host, number.isdigit()) == ("127.0.0.1", True)

    run(main())


def test_something_unforeseen_is_an_internal_error_that_shows_nothing_of_itself(caplog):
    async def main():
        def breaks(_request):
            raise errors.Bug("secret")

        async with serving() as served:
            served.data.models["bug"] = breaks
            code, description = await refused(served.inference.Predictions(request("bug")))
            assert code is INTERNAL
            assert "secret" not in description
            assert description.startswith("Internal error; the server's log has it as ")

    run(main())
    assert len([record for record in caplog.records if "Incident" in record.message]) == 1


def test_many_calls_at_once_get_each_its_own_answer():
    async def main():
        async with serving() as served:
            calls = [
                served.inference.Predictions(request(input={"n": json.dumps(n).encode()}))
                for n in range(200)
            ]
            answers = await asyncio.gather(*calls)
            assert [int(answer.prediction) for answer in answers] == list(range(200))

    run(main())
