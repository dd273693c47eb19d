"""StreamPredictions2: requests of sequences on one call, over a real socket."""

import asyncio

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_server import configured, refused, run, serving

from marserve import errors
from marserve.protocols.pb.inference_pb2 import PredictionsRequest
from marserve.request import Answer
from marserve.servers import grpc_sequences


def request(sequence="s", model="echo", **given):
    return PredictionsRequest(model_name=model, sequence_id=sequence, **given)


def told(message):
    """Code, message and reason of a refusal."""
    (detail,) = message.status.details
    info = ErrorInfo()
    assert detail.Unpack(info)
    return message.status.code, message.status.message, info.reason


async def rest(call):
    return [message async for message in call]


def test_each_request_is_answered_on_the_same_call_and_the_handler_sees_its_sequence():
    async def main():
        async with serving() as served:
            call = served.inference.StreamPredictions2()
            for number in (b"1", b"2"):
                await call.write(request(input={"data": number}))
                answer = await call.read()
                assert (answer.prediction, answer.sequence_id) == (number, "s")
                assert not answer.HasField("status")
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert await call.code() is grpc.StatusCode.OK
            headers = [asked.headers for _, _, asked in served.data.asked]
            assert headers == [[("ts_request_sequence_id", "s")]] * 2

    run(main())


def test_the_name_of_the_header_is_configurable():
    async def main():
        config = configured(ts_header_key_sequence_id="my_sequence")
        async with serving(config=config) as served:
            await rest(served.inference.StreamPredictions2([request()]))
            assert served.data.asked[0][2].headers == [("my_sequence", "s")]

    run(main())


def test_answers_that_are_outstanding_when_the_client_has_said_all_still_come():
    async def main():
        async with serving() as served:
            call = served.inference.StreamPredictions2([request(model="quiet")] * 3)
            jobs = [await served.data.jobs.get() for _ in range(3)]
            await asyncio.sleep(0)
            for number, job in enumerate(jobs):
                job.resolve(Answer(b"%d" % number))
            assert [message.prediction for message in await rest(call)] == [b"0", b"1", b"2"]
            assert await call.code() is grpc.StatusCode.OK

    run(main())


def test_pieces_of_an_answer_are_messages():
    async def main():
        async with serving() as served:
            call = served.inference.StreamPredictions2([request(model="quiet")])
            job = await served.data.jobs.get()
            job.stream(Answer(b"one"))
            job.resolve(Answer(b"two"))
            assert [message.prediction for message in await rest(call)] == [b"one", b"two"]

    run(main())


@pytest.mark.parametrize(
    ("bad", "code", "message", "reason"),
    [
        (
            PredictionsRequest(model_name="echo"),
            13,
            "Parameter sequenceId is required.",
            "BadRequestException.()",
        ),
        (request(model=""), 13, "Parameter model_name is required.", "BadRequestException.()"),
        (
            request(model="no"),
            13,
            "Model not found: no",
            "org.pytorch.serve.archive.model.ModelNotFoundException",
        ),
        (
            request(model="busy"),
            13,
            "No more sequences.",
            "InternalServerException.()",
        ),
        (
            request(model="bad"),
            14,
            "Prediction failed",
            "org.pytorch.serve.http.InternalServerException",
        ),
    ],
)
def test_a_request_that_fails_is_told_so_in_its_answer_and_the_call_goes_on(
    bad, code, message, reason
):
    async def main():
        def fails(_request):
            raise errors.HandlerFailed("Prediction failed")

        async with serving() as served:
            served.data.models["bad"] = fails
            served.data.refuses["busy"] = errors.SequenceRefused("No more sequences.")
            call = served.inference.StreamPredictions2()
            await call.write(bad)
            refusal = await call.read()
            assert told(refusal) == (code, message, reason)
            assert refusal.prediction == b""
            assert refusal.sequence_id == bad.sequence_id
            await call.write(request(input={"a": b"good"}))
            assert (await call.read()).prediction == b"good"
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert await call.code() is grpc.StatusCode.OK

    run(main())


def test_a_message_that_is_none_ends_the_call_after_what_came_before_it():
    async def main():
        async with serving() as served:
            path = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/StreamPredictions2"
            call = served.channel.stream_stream(path)([request().SerializeToString(), b"\xff"])
            assert await call.read() == b"\x12\x01s"
            code, description = await refused(call.read())
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert "is not a org.pytorch.serve.grpc.inference.PredictionsRequest" in description

    run(main())


def test_a_cancelled_call_abandons_all_its_requests():
    async def main():
        async with serving() as served:
            call = served.inference.StreamPredictions2()
            for sequence in "abc":
                await call.write(request(sequence, "quiet"))
            jobs = [await served.data.jobs.get() for _ in range(3)]
            call.cancel()
            assert await served.codes(1) == [1]
            assert [job.is_open for job in jobs] == [False] * 3
            assert [event.status for event in served.predictions] == [499] * 3

    run(main())


def test_no_more_requests_are_read_than_may_be_unanswered(monkeypatch):
    monkeypatch.setattr(grpc_sequences, "MAX_UNANSWERED", 2)

    async def main():
        async with serving() as served:
            call = served.inference.StreamPredictions2([request(model="quiet")] * 4)
            first = await served.data.jobs.get()
            second = await served.data.jobs.get()
            await served.inference.Predictions(request())  # by now a third would be there
            assert served.data.jobs.empty()
            first.resolve(Answer(b"1"))
            third = await served.data.jobs.get()
            assert served.data.jobs.empty()
            second.resolve(Answer(b"2"))
            third.resolve(Answer(b"3"))
            (await served.data.jobs.get()).resolve(Answer(b"4"))
            answers = [message.prediction for message in await rest(call)]
            assert answers == [b"1", b"2", b"3", b"4"]

    run(main())


def test_a_server_that_stops_answers_what_it_has_and_ends_the_call():
    async def main():
        async with serving() as served:
            call = served.inference.StreamPredictions2()
            await call.write(request(model="quiet"))
            job = await served.data.jobs.get()
            stopping = asyncio.create_task(served.port.stop(10.0))
            await asyncio.sleep(0)
            job.resolve(Answer(b"last"))
            assert (await call.read()).prediction == b"last"
            code, description = await refused(call.read())
            assert (code, description) == (
                grpc.StatusCode.UNAVAILABLE,
                "The server is being stopped.",
            )
            await stopping

    run(main())
