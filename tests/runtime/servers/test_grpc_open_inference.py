"""The Open Inference Protocol over a real gRPC socket."""

import json

import grpc
import pytest
from grpc_server import configured, refused, run, serving

from marserve import __version__, errors
from marserve.protocols.pb.open_inference_grpc_pb2 import (
    InferTensorContents,
    ModelInferRequest,
    ModelMetadataRequest,
    ModelReadyRequest,
    ServerLiveRequest,
    ServerMetadataRequest,
    ServerReadyRequest,
)
from marserve.servers import grpc_open_inference

ON = configured(ts_open_inference_protocol="true")
MODELS = "org.pytorch.serve.archive.model."


def doubled(request):
    """A handler that doubles numbers."""
    body = json.loads(request.parts[0][2])
    outputs = [
        {
            "name": "out",
            "datatype": one["datatype"],
            "shape": one["shape"],
            "data": [2 * number for number in one["data"]],
        }
        for one in body["inputs"]
    ]
    answer = {"id": body["id"], "model_name": "m", "model_version": "7", "outputs": outputs}
    return json.dumps(answer).encode()


def test_the_server_lives_and_is_ready_when_its_models_are():
    async def main():
        async with serving(config=ON) as served:
            stub = served.open_inference
            assert (await stub.ServerLive(ServerLiveRequest())).live
            assert (await stub.ServerReady(ServerReadyRequest())).ready
            served.data.ready = False
            assert (await stub.ServerLive(ServerLiveRequest())).live
            assert not (await stub.ServerReady(ServerReadyRequest())).ready

    run(main())


def test_the_server_says_what_it_is():
    async def main():
        async with serving(config=ON) as served:
            answer = await served.open_inference.ServerMetadata(ServerMetadataRequest())
            assert (answer.name, answer.version) == ("marserve", __version__)
            assert list(answer.extensions) == ["kserve", "kubeflow"]

    run(main())


@pytest.mark.parametrize(
    ("version", "ready"), [("", True), ("1.0", True), ("2.0", False)], ids=["default", "1", "2"]
)
def test_a_model_is_ready_if_a_worker_could_answer(version, ready):
    async def main():
        async with serving(config=ON) as served:
            answer = await served.open_inference.ModelReady(
                ModelReadyRequest(name="a", version=version)
            )
            assert answer.ready is ready

    run(main())


def test_the_metadata_of_a_model_names_its_versions():
    async def main():
        async with serving(config=ON) as served:
            answer = await served.open_inference.ModelMetadata(ModelMetadataRequest(name="a"))
            assert (answer.name, list(answer.versions)) == ("a", ["1.0", "2.0"])

    run(main())


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata"])
@pytest.mark.parametrize(
    ("name", "version", "description"),
    [
        ("no", "", f"Model not found: no\n{MODELS}ModelNotFoundException"),
        (
            "a",
            "9",
            f"Model version: 9 does not exist for model: a\n{MODELS}ModelVersionNotFoundException",
        ),
        (
            "a",
            "all",
            "Model version: all does not exist for model: a\n"
            f"{MODELS}ModelVersionNotFoundException",
        ),
    ],
)
def test_what_is_not_registered_is_not_found(method, name, version, description):
    message = {"ModelReady": ModelReadyRequest, "ModelMetadata": ModelMetadataRequest}[method]

    async def main():
        async with serving(config=ON) as served:
            call = getattr(served.open_inference, method)(message(name=name, version=version))
            assert await refused(call) == (grpc.StatusCode.NOT_FOUND, description)

    run(main())


@pytest.mark.parametrize("large_bytes", [0, 1 << 20], ids=["in a thread", "at once"])
def test_tensors_reach_the_handler_as_json_and_its_json_comes_back_as_tensors(
    monkeypatch, large_bytes
):
    monkeypatch.setattr(grpc_open_inference, "_LARGE_BYTES", large_bytes)

    async def main():
        async with serving(config=ON) as served:
            served.data.models["double"] = doubled
            tensor = ModelInferRequest.InferInputTensor(
                name="in",
                datatype="INT32",
                shape=[3],
                contents=InferTensorContents(int_contents=[1, 2, 3]),
            )
            answer = await served.open_inference.ModelInfer(
                ModelInferRequest(model_name="double", id="one", inputs=[tensor])
            )
            assert (answer.id, answer.model_name, answer.model_version) == ("one", "m", "7")
            (output,) = answer.outputs
            assert (output.name, output.datatype, list(output.shape)) == ("out", "INT32", [3])
            assert list(output.contents.int_contents) == [2, 4, 6]
            ((_, version, asked),) = served.data.asked
            assert version is None
            ((part, content_type, _),) = asked.parts
            assert (part, content_type) == ("body", "application/json")

    run(main())


def test_a_reply_that_is_not_the_protocols_is_told_and_the_model_serves_on():
    async def main():
        async with serving(config=ON) as served:
            served.data.models["odd"] = lambda _: b"not JSON"
            infer = served.open_inference.ModelInfer
            for _ in range(2):
                code, description = await refused(infer(ModelInferRequest(model_name="odd")))
                assert code is grpc.StatusCode.INTERNAL
                assert description.startswith("The handler's reply is not the JSON of the Open")
            assert [event.status for event in served.predictions] == [200, 200]

    run(main())


@pytest.mark.parametrize(
    ("asked", "code", "begin"),
    [
        (ModelInferRequest(), grpc.StatusCode.INTERNAL, "Parameter model_name is required.\n"),
        (
            ModelInferRequest(model_name="no"),
            grpc.StatusCode.INTERNAL,
            f"Model not found: no\n{MODELS}ModelNotFoundException",
        ),
        (ModelInferRequest(model_name="bad"), grpc.StatusCode.UNAVAILABLE, "Prediction failed\n"),
        (
            ModelInferRequest(model_name="echo", raw_input_contents=[b"x"]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "raw_input_contents has 1 entries for 0 inputs",
        ),
    ],
)
def test_what_cannot_be_inferred_is_refused(asked, code, begin):
    async def main():
        def fails(_request):
            raise errors.HandlerFailed("Prediction failed")

        async with serving(config=ON) as served:
            served.data.models["bad"] = fails
            got, description = await refused(served.open_inference.ModelInfer(asked))
            assert got is code
            assert description.startswith(begin)

    run(main())


def test_the_service_is_not_there_unless_it_is_switched_on():
    async def main():
        async with serving() as served:
            code, description = await refused(served.open_inference.ServerLive(ServerLiveRequest()))
            assert code is grpc.StatusCode.UNIMPLEMENTED
            assert description.startswith("Method not found: org.pytorch.serve.grpc.openinference")

    run(main())
