"""The management service over a real socket, in front of a control plane that is played."""

import asyncio
import json

import grpc
import pytest
from grpc_server import configured, refused, run, serving

from marserve import errors
from marserve.protocols.pb.management_pb2 import (
    DescribeModelRequest,
    ListModelsRequest,
    RegisterModelRequest,
    ScaleWorkerRequest,
    SetDefaultRequest,
    UnregisterModelRequest,
)

MODELS = "org.pytorch.serve.archive.model."
HTTP = "org.pytorch.serve.http."
PROCESSING = "Processing worker updates..."


@pytest.mark.parametrize(
    ("method", "request_", "call", "text"),
    [
        (
            "ScaleWorker",
            ScaleWorkerRequest(model_name="a", min_worker=2, synchronous=True),
            ("scale", "a", None, 2, None, True),
            "Workers scaled to 2 for model: a",
        ),
        (
            "ScaleWorker",
            ScaleWorkerRequest(
                model_name="a", model_version="2.0", min_worker=1, max_worker=3, synchronous=True
            ),
            ("scale", "a", "2.0", 1, 3, True),
            "Workers scaled to 1 for model: a, version: 2.0",
        ),
        (
            "ScaleWorker",
            ScaleWorkerRequest(model_name="a"),
            ("scale", "a", None, 1, None, False),
            PROCESSING,
        ),
        (
            "SetDefault",
            SetDefaultRequest(model_name="a", model_version="2.0"),
            ("set_default", "a", "2.0"),
            'Default version successfully updated for model "a" to "2.0"',
        ),
        (
            "UnregisterModel",
            UnregisterModelRequest(model_name="a"),
            ("unregister", "a", None),
            'Model "a" unregistered',
        ),
        (
            "UnregisterModel",
            UnregisterModelRequest(model_name="a", model_version="2.0"),
            ("unregister", "a", "2.0"),
            'Model "a" unregistered',
        ),
    ],
)
def test_changes_reach_the_control_plane_and_are_answered_as_over_http(
    method, request_, call, text
):
    async def main():
        async with serving("management") as served:
            answer = await getattr(served.management, method)(request_)
            assert answer.msg == text
            assert served.plane.calls == [call]

    run(main())


def test_a_registration_is_answered_as_over_http():
    async def main():
        async with serving("management") as served:
            register = served.management.RegisterModel
            answer = await register(
                RegisterModelRequest(url="a.mar", initial_workers=1, synchronous=True)
            )
            assert answer.msg == 'Model "a" Version: 1.0 registered with 1 initial workers'
            assert (await register(RegisterModelRequest(url="a.mar"))).msg == PROCESSING

    run(main())


def test_a_model_is_described_as_over_http():
    async def main():
        async with serving("management") as served:
            describe = served.management.DescribeModel
            answer = await describe(DescribeModelRequest(model_name="a"))
            assert answer.msg.startswith('[\n  {\n    "modelName": "a",')
            assert answer.msg.endswith("]")
            assert [one["modelVersion"] for one in json.loads(answer.msg)] == ["1.0"]
            answer = await describe(DescribeModelRequest(model_name="a", model_version="all"))
            assert [one["modelVersion"] for one in json.loads(answer.msg)] == ["1.0", "2.0"]

    run(main())


def test_a_handler_is_asked_to_describe_itself_if_one_version_is_wanted():
    async def main():
        async with serving("management") as served:
            describe = served.management.DescribeModel
            await describe(DescribeModelRequest(model_name="a", customized=True))
            await describe(
                DescribeModelRequest(model_name="a", model_version="all", customized=True)
            )
            assert served.plane.calls == [
                ("describe", "a", None, "customized"),
                ("describe", "a", "all"),
            ]

    run(main())


@pytest.mark.parametrize(
    ("request_", "count", "token"),
    [
        (ListModelsRequest(), 100, "100"),
        (ListModelsRequest(limit=2), 2, "2"),
        (ListModelsRequest(limit=2, next_page_token=1), 2, "3"),
        (ListModelsRequest(next_page_token=100), 50, None),
        (ListModelsRequest(limit=-1), 150, None),
        (ListModelsRequest(limit=-1, next_page_token=149), 1, None),
    ],
)
def test_models_are_listed_in_pages(request_, count, token):
    async def main():
        async with serving("management") as served:
            answer = json.loads((await served.management.ListModels(request_)).msg)
            assert len(answer["models"]) == count
            assert answer.get("nextPageToken") == token

    run(main())


@pytest.mark.parametrize(
    ("method", "request_", "raised", "code", "description"),
    [
        (
            "DescribeModel",
            DescribeModelRequest(model_name="no"),
            None,
            grpc.StatusCode.NOT_FOUND,
            f"Model not found: no\n{MODELS}ModelNotFoundException",
        ),
        (
            "DescribeModel",
            DescribeModelRequest(),
            None,
            grpc.StatusCode.INVALID_ARGUMENT,
            f"Parameter model_name is required.\n{HTTP}BadRequestException",
        ),
        (
            "DescribeModel",
            DescribeModelRequest(model_name="a", customized=True),
            errors.NoWorkers("a", None),
            grpc.StatusCode.INTERNAL,
            f"InternalServerException.()\n{HTTP}InternalServerException",
        ),
        (
            "DescribeModel",
            DescribeModelRequest(model_name="a", customized=True),
            errors.DeadlineExceeded("late"),
            grpc.StatusCode.INTERNAL,
            f"Failed to get customized model matadata.\n{HTTP}InternalServerException",
        ),
        (
            "UnregisterModel",
            UnregisterModelRequest(model_name="a"),
            errors.DeadlineExceeded("late"),
            grpc.StatusCode.FAILED_PRECONDITION,
            f"Timed out while cleaning resources: a\n{HTTP}RequestTimeoutException",
        ),
        (
            "SetDefault",
            SetDefaultRequest(model_name="a", model_version="9"),
            errors.VersionNotFound("a", "9"),
            grpc.StatusCode.NOT_FOUND,
            f"Model version 9 does not exist for model a\n{MODELS}ModelVersionNotFoundException",
        ),
        (
            "RegisterModel",
            RegisterModelRequest(),
            None,
            grpc.StatusCode.INVALID_ARGUMENT,
            f"Parameter url is required.\n{HTTP}BadRequestException",
        ),
        (
            "RegisterModel",
            RegisterModelRequest(url="a.mar"),
            errors.VersionConflict("a", "1.0"),
            grpc.StatusCode.ALREADY_EXISTS,
            f"Model version 1.0 is already registered for model a\n{HTTP}ConflictStatusException",
        ),
        (
            "RegisterModel",
            RegisterModelRequest(url="http://a/b.mar"),
            errors.DownloadFailed("No answer."),
            grpc.StatusCode.INVALID_ARGUMENT,
            "No answer.\norg.pytorch.serve.archive.DownloadArchiveException",
        ),
        (
            "RegisterModel",
            RegisterModelRequest(url="a.mar"),
            errors.ArchiveRefused("a.mar has no manifest."),
            grpc.StatusCode.INVALID_ARGUMENT,
            f"a.mar has no manifest.\n{MODELS}InvalidModelException",
        ),
        (
            "RegisterModel",
            RegisterModelRequest(url="a.mar"),
            errors.LoadFailed("Failed to start workers for model a version: 1.0: no"),
            grpc.StatusCode.INTERNAL,
            f"Failed to start workers for model a version: 1.0: no\n{HTTP}InternalServerException",
        ),
        (
            "UnregisterModel",
            UnregisterModelRequest(model_name="a"),
            errors.DefaultVersionInUse("a"),
            grpc.StatusCode.FAILED_PRECONDITION,
            f"Cannot remove default version for model a\n{HTTP}InvalidModelVersionException",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_torchserves_words(
    method, request_, raised, code, description
):
    async def main():
        async with serving("management") as served:
            served.plane.raises = raised
            got = await refused(getattr(served.management, method)(request_))
            assert got == (code, description)

    run(main())


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("RegisterModel", RegisterModelRequest(url="a.mar")),
        ("UnregisterModel", UnregisterModelRequest(model_name="a")),
    ],
)
def test_without_the_model_api_models_do_not_come_and_go(method, request_):
    async def main():
        async with serving("management", config=configured(enable_model_api="false")) as served:
            got = await refused(getattr(served.management, method)(request_))
            description = f"Model API disabled\n{MODELS}ModelException"
            assert got == (grpc.StatusCode.PERMISSION_DENIED, description)
            assert served.plane.calls == []

    run(main())


def test_a_change_whose_client_goes_away_is_made_to_its_end():
    async def main():
        async with serving("management") as served:
            served.plane.gate = asyncio.Event()
            call = served.management.ScaleWorker(ScaleWorkerRequest(model_name="a", min_worker=2))
            while not served.plane.calls:
                await asyncio.sleep(0.001)
            call.cancel()
            assert await served.codes(1) == [1]
            assert served.plane.finished == 0
            served.plane.gate.set()
            await served.port.stop(5.0)
            assert served.plane.finished == 1

    run(main())


def test_calls_are_told_to_the_bus():
    async def main():
        async with serving("management") as served:
            await refused(served.management.RegisterModel(RegisterModelRequest()))
            await served.codes(1)
            (event,) = served.calls
            path = "org.pytorch.serve.grpc.management.ManagementAPIsService/RegisterModel"
            assert (event.origin.path, event.code) == (path, 3)
            assert served.predictions == []

    run(main())
