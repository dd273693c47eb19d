"""The gRPC ports answer as TorchServe's do, to a client made of the same service descriptions."""

from __future__ import annotations

import json
import queue
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from contract import Difference
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_client import INFERENCE, MANAGEMENT, OPEN_INFERENCE, Stub
from targets import Target

from marserve.protocols.pb.inference_pb2 import PredictionResponse, PredictionsRequest
from marserve.protocols.pb.management_pb2 import (
    DescribeModelRequest,
    ListModelsRequest,
    RegisterModelRequest,
    ScaleWorkerRequest,
    SetDefaultRequest,
    UnregisterModelRequest,
)
from marserve.protocols.pb.open_inference_grpc_pb2 import (
    InferTensorContents,
    ModelInferRequest,
    ModelMetadataRequest,
    ModelReadyRequest,
    ServerLiveRequest,
    ServerMetadataRequest,
    ServerReadyRequest,
)

Code = grpc.StatusCode
TIMEOUT_S = 60.0
MODELS = "org.pytorch.serve.archive.model."
HTTP = "org.pytorch.serve.http."
NO_VERSION = f"{MODELS}ModelVersionNotFoundException"
NO_WORKER = re.compile(r'Model "idle" has no worker to serve inference request\. .*')

HANDLER = '''
import json

def handle(data, context):
    """Acts on `word`; without one it answers what it got."""
    answers = []
    for index, row in enumerate(data or []):
        word = bytes(row.get("word", b"")).decode()
        if word == "raise":
            raise ValueError("no")
        if word == "headers":
            answers.append(context.get_all_request_header(index))
        elif word == "status":
            context.set_response_status(404, "Gone", idx=index)
            answers.append("not found")
        elif isinstance(row.get("body"), dict) and "inputs" in row["body"]:
            answers.append(tensors(row["body"]))
        else:
            shown = {key: [type(row[key]).__name__, str(row[key], "latin-1")] for key in row}
            answers.append(shown)
    return answers

def tensors(body):
    outputs = [
        {"name": one["name"], "datatype": one["datatype"], "shape": one["shape"],
         "data": one["data"]}
        for one in body["inputs"]
    ]
    seen = json.dumps(sorted(body))
    outputs.append({"name": "seen", "datatype": "BYTES", "shape": [1], "data": [seen]})
    return {"id": body["id"], "model_name": "odd", "model_version": "7", "outputs": outputs}
'''


SEQUENCES = """\
minWorkers: 1
maxWorkers: 1
batchSize: 2
maxBatchDelay: 10
sequenceBatching: true
maxNumSequence: 4
sequenceMaxIdleMSec: 60000
sequenceTimeoutMSec: 60000
maxSequenceJobQueueSize: 10
"""


@dataclass(frozen=True)
class Outcome:
    """How a call ended: its code and description, or its messages (as `shown` shows them)."""

    code: grpc.StatusCode = Code.OK
    text: Any = None
    """A description, or what was answered; a regex is matched; None: anything."""

    def agrees(self, got: Outcome) -> bool:
        if self.code is not got.code:
            return False
        if isinstance(self.text, re.Pattern):
            return isinstance(got.text, str) and self.text.fullmatch(got.text) is not None
        return self.text is None or bool(self.text == got.text)

    def __str__(self) -> str:
        text = self.text.pattern if isinstance(self.text, re.Pattern) else self.text
        return self.code.name if text is None else f"{self.code.name} `{text}`"


@dataclass(frozen=True)
class Call:
    """One call and how it must end."""

    method: str
    request: Message
    expected: Outcome
    torchserve: Outcome | None = None
    """How TorchServe ends it; None: as we do."""
    why: str = ""
    title: str = ""

    def __str__(self) -> str:
        return self.title or f"{self.method} {' '.join(str(self.request).split())}"

    def differences(self) -> list[Difference]:
        if self.torchserve is None:
            return []
        what = f"gRPC: {self}"
        return [Difference(what, str(self.expected), str(self.torchserve), self.why)]


def failed(code: grpc.StatusCode, text: object) -> Outcome:
    return Outcome(code, text)


def answered(text: object) -> Outcome:
    return Outcome(Code.OK, text)


def predict(model: str = "odd", version: str = "", **given: Any) -> PredictionsRequest:
    entries = {name: value.encode() for name, value in given.items()}
    return PredictionsRequest(model_name=model, model_version=version, input=entries)


class Client:
    """Calls any method of the three services, and shows how the call ended."""

    def __init__(self, target: Target) -> None:
        self._channels = {
            port: grpc.insecure_channel("{}:{}".format(*target.address(port)))
            for port in ("grpc_inference", "grpc_management")
        }
        services = (
            ("grpc_inference", INFERENCE),
            ("grpc_inference", OPEN_INFERENCE),
            ("grpc_management", MANAGEMENT),
        )
        self._methods = {
            method.name: getattr(Stub(self._channels[port], service), method.name)
            for port, service in services
            for method in service.methods
        }

    def __getattr__(self, method: str) -> Any:
        return self._methods[method]

    def outcome(self, method: str, request: Any, *metadata: tuple[str, str]) -> Outcome:
        try:
            answer = self._methods[method](request, timeout=TIMEOUT_S, metadata=metadata)
            if isinstance(answer, Message):
                return answered(shown(answer))
            return answered([shown(one) for one in answer])
        except grpc.RpcError as error:
            status: Any = error
            return failed(status.code(), status.details())

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()


def shown(message: Message) -> Any:
    """The one thing that an answer says."""
    for name in ("health", "msg", "prediction", "live", "ready"):
        if name in message.DESCRIPTOR.fields_by_name:
            value = getattr(message, name)
            return value.decode() if isinstance(value, bytes) else value
    return message


@pytest.fixture(scope="module")
def served(target: Target) -> Target:
    source = target.root / "odd.py"
    source.write_text(HANDLER)
    for name in ("odd", "idle", "other"):
        target.pack(name, source)
    target.pack("two", source, version="1.0", file_name="two1.mar")
    target.pack("two", source, version="2.0", file_name="two2.mar")
    target.pack("streamer", "streamer.py")
    settings = target.root / "model-config.yaml"
    settings.write_text(SEQUENCES)
    target.pack("dialogue", "dialogue.py", config_file=str(settings))
    target.start(
        load_models="odd.mar,two1.mar,two2.mar,streamer.mar,dialogue.mar",
        ts_open_inference_protocol="true",
        max_request_size=100_000,
    )
    target.call("POST /models?url=idle.mar&initial_workers=0")
    return target


@pytest.fixture(scope="module")
def client(served: Target) -> Iterator[Client]:
    one = Client(served)
    yield one
    one.close()


def check(target: Target, client: Client, call: Call) -> None:
    expected = call.expected
    if target.is_torchserve and call.torchserve is not None:
        expected = call.torchserve
    got = client.outcome(call.method, call.request)
    assert expected.agrees(got), f"{call}: {got}, not {expected}"


CONTROL_TEXT = "a management client gets a code that says what is wrong"

CALLS = [
    Call("Ping", Empty(), answered('{\n  "status": "Healthy"\n}')),
    # --- predictions ---
    Call(
        "Predictions",
        predict(data="x"),
        answered('{\n  "data": [\n    "bytearray",\n    "x"\n  ]\n}'),
    ),
    Call("Predictions", predict(), answered("{}")),
    Call("Predictions", predict(version="1.0"), answered("{}")),
    Call(
        "Predictions",
        predict(word="headers"),
        answered('{\n  "word": {\n    "content-type": ""\n  }\n}'),
    ),
    Call("Predictions", predict(word="status"), answered("not found")),
    Call(
        "Predictions",
        predict(""),
        failed(Code.INTERNAL, "Parameter model_name is required.\nBadRequestException.()"),
    ),
    Call(
        "Predictions",
        predict("no"),
        failed(Code.INTERNAL, f"Model not found: no\n{MODELS}ModelNotFoundException"),
    ),
    Call(
        "Predictions",
        predict(version="9"),
        failed(
            Code.INTERNAL,
            f"Model version: 9 does not exist for model: odd\n{NO_VERSION}",
        ),
    ),
    Call(
        "Predictions",
        predict("idle"),
        failed(
            Code.INTERNAL,
            re.compile(NO_WORKER.pattern + r"\nInternalServerException\.\(\)"),
        ),
    ),
    Call(
        "Predictions",
        predict(word="raise"),
        failed(
            Code.UNAVAILABLE,
            f"Prediction failed: ValueError: no\n{HTTP}InternalServerException",
        ),
        failed(Code.UNAVAILABLE, f"Prediction failed\n{HTTP}InternalServerException"),
        "the client learns what the handler raised",
    ),
    Call(
        "Predictions",
        predict(data="x" * 200_000),
        failed(Code.RESOURCE_EXHAUSTED, re.compile(r".*larger than max.*")),
        failed(Code.CANCELLED, None),
        "the reason is told",
        title="Predictions of a message over max_request_size",
    ),
    # --- streams ---
    Call(
        "StreamPredictions",
        PredictionsRequest(model_name="streamer", input={"body": b"2"}),
        answered(["0 ", "1 ", "end"]),
    ),
    Call(
        "StreamPredictions",
        predict(),
        answered(["{}"]),
        failed(Code.INTERNAL, f"Worker died.\n{HTTP}InternalServerException"),
        "a handler that does not stream is no reason to end its worker",
    ),
    Call(
        "StreamPredictions",
        predict("no"),
        failed(Code.INTERNAL, f"Model not found: no\n{MODELS}ModelNotFoundException"),
    ),
    # --- management ---
    Call(
        "DescribeModel",
        DescribeModelRequest(model_name="no"),
        failed(Code.NOT_FOUND, f"Model not found: no\n{MODELS}ModelNotFoundException"),
    ),
    Call(
        "DescribeModel",
        DescribeModelRequest(model_name="odd", model_version="9"),
        failed(
            Code.NOT_FOUND,
            f"Model version: 9 does not exist for model: odd\n{NO_VERSION}",
        ),
    ),
    Call(
        "DescribeModel",
        DescribeModelRequest(model_name="idle", customized=True),
        failed(
            Code.INTERNAL,
            f"InternalServerException.()\n{HTTP}InternalServerException",
        ),
    ),
    Call(
        "SetDefault",
        SetDefaultRequest(model_name="two", model_version="2.0"),
        answered('Default version successfully updated for model "two" to "2.0"'),
    ),
    Call(
        "SetDefault",
        SetDefaultRequest(model_name="two", model_version="9"),
        failed(
            Code.NOT_FOUND,
            f"Model version 9 does not exist for model two\n{NO_VERSION}",
        ),
    ),
    Call(
        "RegisterModel",
        RegisterModelRequest(),
        failed(Code.INVALID_ARGUMENT, f"Parameter url is required.\n{HTTP}BadRequestException"),
    ),
    Call(
        "RegisterModel",
        RegisterModelRequest(url="odd.mar"),
        failed(
            Code.ALREADY_EXISTS,
            f"Model version 1.0 is already registered for model odd\n{HTTP}ConflictStatusException",
        ),
        failed(Code.UNKNOWN, ""),
        CONTROL_TEXT,
    ),
    Call(
        "RegisterModel",
        RegisterModelRequest(url="none.mar"),
        failed(Code.NOT_FOUND, re.compile(rf".*none\.mar.*\n{MODELS}ModelNotFoundException")),
    ),
    Call(
        "UnregisterModel",
        UnregisterModelRequest(model_name="two", model_version="2.0"),
        failed(
            Code.FAILED_PRECONDITION,
            f"Cannot remove default version for model two\n{HTTP}InvalidModelVersionException",
        ),
        failed(Code.UNKNOWN, ""),
        CONTROL_TEXT,
    ),
    Call(
        "UnregisterModel",
        UnregisterModelRequest(model_name="no"),
        failed(Code.NOT_FOUND, f"Model not found: no\n{MODELS}ModelNotFoundException"),
    ),
    Call(
        "ScaleWorker",
        ScaleWorkerRequest(model_name="no"),
        failed(Code.NOT_FOUND, f"Model not found: no\n{MODELS}ModelNotFoundException"),
    ),
    Call(
        "ScaleWorker",
        ScaleWorkerRequest(model_name="streamer", min_worker=1, synchronous=True),
        answered("Workers scaled to 1 for model: streamer"),
    ),
    Call(
        "ScaleWorker",
        ScaleWorkerRequest(model_name="two", model_version="1.0", min_worker=1, synchronous=True),
        answered("Workers scaled to 1 for model: two, version: 1.0"),
    ),
    # --- Open Inference ---
    Call("ServerLive", ServerLiveRequest(), answered(True)),
    Call("ServerReady", ServerReadyRequest(), answered(True)),
    Call("ModelReady", ModelReadyRequest(name="odd"), answered(True)),
    Call(
        "ModelReady",
        ModelReadyRequest(name="idle"),
        answered(False),
        answered(True),
        "a model without workers cannot answer",
    ),
    Call(
        "ModelReady",
        ModelReadyRequest(name="no"),
        failed(Code.NOT_FOUND, None),
    ),
    Call("ModelMetadata", ModelMetadataRequest(name="no"), failed(Code.NOT_FOUND, None)),
    Call(
        "ServerMetadata",
        ServerMetadataRequest(),
        answered(None),
        failed(Code.UNIMPLEMENTED, None),
        "it is easily told",
    ),
    Call(
        "ModelInfer",
        ModelInferRequest(model_name="no"),
        failed(Code.INTERNAL, f"Model not found: no\n{MODELS}ModelNotFoundException"),
    ),
]


@pytest.mark.parametrize("case", CALLS, ids=str)
def test_calls_end_as_torchserves(served: Target, client: Client, case: Call) -> None:
    check(served, client, case)


def test_models_come_and_go(served: Target, client: Client) -> None:
    check_all = [
        Call(
            "RegisterModel",
            RegisterModelRequest(url="other.mar", initial_workers=1, synchronous=True),
            answered('Model "other" Version: 1.0 registered with 1 initial workers'),
        ),
        Call("Predictions", predict("other"), answered("{}")),
        Call(
            "UnregisterModel",
            UnregisterModelRequest(model_name="other", model_version="1.0"),
            answered('Model "other" unregistered'),
        ),
        Call(
            "Predictions",
            predict("other"),
            failed(Code.INTERNAL, f"Model not found: other\n{MODELS}ModelNotFoundException"),
        ),
    ]
    for call in check_all:
        check(served, client, call)


def test_describe_and_list_are_the_documents_of_the_http_api(
    served: Target, client: Client
) -> None:
    described = client.DescribeModel(DescribeModelRequest(model_name="two", model_version="all"))
    over_http = served.call("GET /models/two/all")
    assert names(json.loads(described.msg)) == names(over_http.json())
    assert described.msg.startswith('[\n  {\n    "modelName": "two",')
    assert described.msg.endswith("}\n]")
    listed = client.ListModels(ListModelsRequest(limit=2))
    assert listed.msg == served.call("GET /models?limit=2").body.decode().removesuffix("\n")


def names(versions: Any) -> list[tuple[str, list[str]]]:
    return sorted((version["modelVersion"], list(version)) for version in versions)


@pytest.mark.differs(
    "gRPC: `ListModels` without a limit",
    "the first 100 models",
    "no model",
    "zero is what a client sends that sets no limit",
)
def test_a_list_without_a_limit(served: Target, client: Client) -> None:
    listed = json.loads(client.ListModels(ListModelsRequest()).msg)
    expected = [] if served.is_torchserve else ["dialogue", "idle", "odd", "streamer", "two"]
    assert [model["modelName"] for model in listed["models"]] == expected


# --- Open Inference ---


def infer(*inputs: ModelInferRequest.InferInputTensor, **given: Any) -> ModelInferRequest:
    return ModelInferRequest(model_name="odd", id="42", inputs=inputs, **given)


def tensor(datatype: str, shape: list[int], **contents: Any) -> Any:
    return ModelInferRequest.InferInputTensor(
        name="in", datatype=datatype, shape=shape, contents=InferTensorContents(**contents)
    )


@pytest.mark.parametrize(
    ("datatype", "field", "elements"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [1, -1]),
        ("INT16", "int_contents", [1, -1]),
        ("INT32", "int_contents", [1, -1]),
        ("INT64", "int64_contents", [1, -1]),
        ("UINT8", "uint_contents", [1, 2]),
        ("UINT16", "uint_contents", [1, 2]),
        ("UINT32", "uint_contents", [1, 2]),
        ("UINT64", "uint64_contents", [1, 2]),
        ("FP32", "fp32_contents", [0.5, -1.0]),
        ("FP64", "fp64_contents", [0.5, -1.0]),
    ],
)
def test_tensors_go_to_the_handler_and_come_back(
    client: Client, datatype: str, field: str, elements: list[Any]
) -> None:
    answer = client.ModelInfer(infer(tensor(datatype, [2], **{field: elements})))
    assert (answer.id, answer.model_name, answer.model_version) == ("42", "odd", "7")
    first, seen = answer.outputs
    assert (first.name, first.datatype, list(first.shape)) == ("in", datatype, [2])
    assert list(getattr(first.contents, field)) == elements
    (members,) = seen.contents.bytes_contents
    assert json.loads(json.loads(members)) == ["id", "inputs", "model_name"]


def test_elements_of_bytes_go_in_as_base64_and_come_out_as_json_text(client: Client) -> None:
    answer = client.ModelInfer(infer(tensor("BYTES", [1], bytes_contents=[b"ab"])))
    assert list(answer.outputs[0].contents.bytes_contents) == [b'"YWI="']


def test_the_metadata_of_a_model_names_its_versions(client: Client) -> None:
    answer = client.ModelMetadata(ModelMetadataRequest(name="two"))
    assert answer.name == "two"
    assert sorted(answer.versions) == ["1.0", "2.0"]
    assert (answer.platform, len(answer.inputs), len(answer.outputs)) == ("", 0, 0)


# --- StreamPredictions2 ---


def in_band(answer: PredictionResponse) -> tuple[int, str, str]:
    (detail,) = answer.status.details
    info = ErrorInfo()
    assert detail.Unpack(info)
    return answer.status.code, answer.status.message, info.reason


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (
            PredictionsRequest(model_name="odd"),
            (13, "Parameter sequenceId is required.", "BadRequestException.()"),
        ),
        (
            PredictionsRequest(sequence_id="s"),
            (13, "Parameter model_name is required.", "BadRequestException.()"),
        ),
    ],
    ids=["no sequence_id", "no model_name"],
)
def test_a_bad_request_of_a_sequence_is_answered_in_the_stream(
    client: Client, bad: PredictionsRequest, expected: tuple[int, str, str]
) -> None:
    with talking(client) as say:
        assert in_band(say(bad)) == expected


def test_a_sequence_keeps_its_state_and_its_order(client: Client) -> None:
    with talking(client) as say, talking(client) as tell:
        sums = []
        for number in (b"1", b"2", b"3"):
            for speak, sequence in ((say, "one"), (tell, "two")):
                given = {"body": number} if sequence == "one" else {"body": number + b"0"}
                answer = speak(
                    PredictionsRequest(model_name="dialogue", sequence_id=sequence, input=given)
                )
                sums.append(json.loads(answer.prediction)["sum"])
        assert sums == [1, 10, 3, 30, 6, 60]


@pytest.mark.ours_only
@pytest.mark.differs(
    "gRPC: `StreamPredictions2` for a model that is unknown, or without sequenceBatching",
    "the first is refused in the stream, the second is served",
    "the call ends with UNKNOWN",
    "one bad request does not end the others",
)
def test_a_model_that_is_not_there_does_not_end_the_stream(client: Client) -> None:
    with talking(client) as say:
        refused = say(PredictionsRequest(model_name="no", sequence_id="s"))
        reason = f"{MODELS}ModelNotFoundException"
        assert in_band(refused) == (13, "Model not found: no", reason)
        served = say(
            PredictionsRequest(model_name="odd", sequence_id="s", input={"word": b"headers"})
        )
        headers = json.loads(served.prediction)
        assert headers.pop("ts_request_sequence_id") == "s"
        assert set(headers) == {"word"}


@pytest.mark.ours_only
@pytest.mark.differs(
    "gRPC: `StreamPredictions2`, answers outstanding when the client half-closes",
    "they still come",
    "they are lost",
    "a client has a right to its answers",
)
def test_answers_come_after_the_client_has_sent_its_last_request(client: Client) -> None:
    requests = [PredictionsRequest(model_name="odd", sequence_id="s")] * 3
    answers = client.StreamPredictions2(iter(requests), timeout=TIMEOUT_S)
    assert [answer.prediction for answer in answers] == [b"{}"] * 3


class talking:
    """A StreamPredictions2 call: say one request, get its answer."""

    def __init__(self, client: Client) -> None:
        self._requests: Any = queue.SimpleQueue()
        sent = iter(self._requests.get, None)
        self._answers = client.StreamPredictions2(sent, timeout=TIMEOUT_S)

    def __enter__(self) -> Callable[[PredictionsRequest], PredictionResponse]:
        return self._say

    def __exit__(self, *_: object) -> None:
        self._requests.put(None)
        self._answers.cancel()

    def _say(self, request: PredictionsRequest) -> PredictionResponse:
        self._requests.put(request)
        answer: PredictionResponse = next(self._answers)
        return answer


# --- the server ---


def test_each_call_has_a_line_in_the_access_log(served: Target, client: Client) -> None:
    client.outcome("RegisterModel", RegisterModelRequest())
    line = re.compile(
        r'/127\.0\.0\.1:\d+ "gRPC org\.pytorch\.serve\.grpc\.management\.ManagementAPIsService'
        r'/RegisterModel HTTP/2\.0" 3 \d+'
    )
    log = served.root / "logs" / "access_log.log"
    served.wait_until(lambda: line.search(log.read_text()))


@pytest.mark.ours_only
def test_a_taken_grpc_port_is_told_before_anything_starts(served: Target) -> None:
    _, number = served.address("grpc_inference")
    home = served.root / "second"
    home.mkdir()
    config = home / "config.properties"
    ports = ("inference", "management", "metrics")
    config.write_text(
        f"grpc_inference_port={number}\ngrpc_management_port=0\nmodel_store={served.store}\n"
        + "".join(f"{port}_address=http://127.0.0.1:0\n" for port in ports)
    )
    command = [sys.executable, "-m", "marserve", "serve", "--config", str(config)]
    ended = subprocess.run(
        command, cwd=home, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert ended.returncode != 0
    assert f"127.0.0.1:{number} (grpc_inference_address, grpc_inference_port)" in ended.stderr


NO_TOKEN = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"


@pytest.mark.differs(
    "gRPC: a call without a token",
    "UNAUTHENTICATED, unless token_errors_as_400=true; the text says what is missing",
    "PERMISSION_DENIED",
    "a client can tell that it forgot the token from that it has the wrong one",
)
def test_calls_need_the_token_of_their_port(make_target: Callable[[], Target]) -> None:
    target = make_target()
    target.start(disable_token_authorization="false")
    client = Client(target)
    keys = json.loads((target.root / "key_file.json").read_text())
    missing = Code.PERMISSION_DENIED if target.is_torchserve else Code.UNAUTHENTICATED
    text = NO_TOKEN if target.is_torchserve else re.compile("Token Authorization failed\\. .*")
    for method, port in (("Ping", "inference"), ("ListModels", "management")):
        request = Empty() if method == "Ping" else ListModelsRequest()
        assert failed(missing, text).agrees(client.outcome(method, request))
        for key in (keys["API"]["key"], "wrong", ""):
            got = client.outcome(method, request, ("authorization", f"Bearer {key}"))
            # no key at all is a missing one
            wrong = Code.PERMISSION_DENIED if key else missing
            assert failed(wrong, text).agrees(got)
        right = ("authorization", f"Bearer {keys[port]['key']}")
        assert client.outcome(method, request, right).code is Code.OK
    client.close()


@pytest.mark.ours_only
def test_tokens_are_refused_in_torchserves_words_on_demand(
    make_target: Callable[[], Target],
) -> None:
    target = make_target()
    target.start(disable_token_authorization="false", token_errors_as_400="true")
    client = Client(target)
    assert client.outcome("Ping", Empty()) == failed(Code.PERMISSION_DENIED, NO_TOKEN)
    client.close()
