"""The parts that are ours: which API a path means, what streams, what vLLM is started with."""

import asyncio
import os
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import pytest

from marserve_handlers.contract import Context
from marserve_handlers.errors import HandlerLoadFailed, PredictionException
from marserve_handlers.vllm import VLLMHandler

OPENAI = "vllm.entrypoints.openai"


@dataclass
class EngineArgs:
    model: str
    served_model_name: str | None = None
    max_model_len: int | None = None


class Engine:
    def __init__(self, config):
        self.config = config
        self.vllm_config = "vllm config"

    @classmethod
    def from_engine_args(cls, config):
        return cls(config)

    async def get_supported_tasks(self):
        return ("generate",)


class Model:
    """What pydantic models have."""

    def __init__(self, **fields):
        vars(self).update(fields)

    def model_dump(self):
        return vars(self)

    @classmethod
    def model_validate(cls, value):
        if "prompt" not in value and "messages" not in value:
            raise ValueError("prompt: field required")
        return cls(**value)


class Service:
    """vLLM's services: an answer, or its pieces where the request asks for a stream."""

    async def show_available_models(self):
        return Model(object="list", data=[{"id": "tiny"}])

    async def create_completion(self, request, raw_request):
        assert raw_request.headers == {}
        assert not await raw_request.is_disconnected()
        if request.prompt == "wrong":
            return Model(message="no such model", code=404)
        if getattr(request, "stream", False):
            return self.pieces()
        return Model(choices=[{"text": f"{request.prompt}!"}])

    async def create_chat_completion(self, request, raw_request):
        return Model(choices=[{"message": request.messages[-1]}])

    async def pieces(self):
        for piece in ("data: 1\n\n", "data: 2\n\n", "data: [DONE]\n\n"):
            yield piece


@pytest.fixture
def started(monkeypatch):
    """Fake modules of vLLM, as releases since 0.30 have them; what its services were built from."""
    seen = SimpleNamespace()
    parsed = SimpleNamespace(
        model=None,
        served_model_name=None,
        max_model_len=None,
        chat_template=None,
        lora_modules=None,
    )

    async def init_app_state(engine_client, state, args, supported_tasks=None):
        seen.engine, seen.args, seen.tasks = engine_client, args, supported_tasks
        state.openai_serving_models = Service()
        state.openai_serving_completion = Service()
        state.openai_serving_chat = Service()

    modules = {
        "vllm": {"AsyncEngineArgs": EngineArgs, "AsyncLLMEngine": Engine},
        "vllm.utils.argparse_utils": {"FlexibleArgumentParser": lambda: None},
        "vllm.entrypoints.common.cli_args": {
            "make_arg_parser": lambda _: SimpleNamespace(parse_args=lambda _: parsed)
        },
        "vllm.entrypoints.launchers.api_server.app_state": {"init_app_state": init_app_state},
        f"{OPENAI}.models.protocol": {"LoRAModulePath": SimpleNamespace},
        f"{OPENAI}.completion.protocol": {"CompletionRequest": Model},
        f"{OPENAI}.chat_completion.protocol": {"ChatCompletionRequest": Model},
    }
    for name, attributes in modules.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "")
    return seen


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def ask(started, loop, tmp_path):
    """Answers to one request at a path, the pieces before them, and the status."""
    context = make_context(tmp_path, {"model_path": "org/tiny"})
    handler = VLLMHandler()
    handler.initialize(context)

    def call(path, body):
        pieces = []
        context.begin_batch(["r1"], [{"url_path": path}])
        context.send_intermediate = lambda results, _: pieces.append(results)
        answer = loop.run_until_complete(handler.handle([{"body": body}], context))
        return answer, pieces, context.get_response_status(0)[0]

    return call


def make_context(model_dir, settings):
    return Context(
        model_name="m",
        manifest={"model": {}},
        model_dir=str(model_dir),
        batch_size=1,
        model_yaml_config={"handler": settings},
    )


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("v1/models", bytearray(), {"object": "list", "data": [{"id": "tiny"}]}),
        ("v1/completions", {"prompt": "hi"}, {"choices": [{"text": "hi!"}]}),
        ("v1/completions", bytearray(b'{"prompt": "hi"}'), {"choices": [{"text": "hi!"}]}),
        ("v1/chat/completions", {"messages": ["a", "b"]}, {"choices": [{"message": "b"}]}),
    ],
)
def test_the_path_says_which_api_answers(path, body, answer, ask):
    assert ask(path, body) == ([answer], [], 200)


def test_a_stream_goes_out_in_pieces_and_the_last_one_is_the_result(ask):
    answer, pieces, _ = ask("v1/completions", {"prompt": "hi", "stream": True})
    assert pieces == [["data: 1\n\n"], ["data: 2\n\n"]]
    assert answer == ["data: [DONE]\n\n"]


def test_a_refusal_of_vllm_has_its_status(ask):
    answer = {"message": "no such model", "code": 404}
    assert ask("v1/completions", {"prompt": "wrong"}) == ([answer], [], 404)


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("v1/other", {}, 404, "Unknown API endpoint: v1/other"),
        ("", {"prompt": "hi"}, 404, "Unknown API endpoint: "),
        ("v1/completions", {}, 400, "prompt: field required"),
        ("v1/completions", bytearray(b"{"), 400, "must be a JSON object"),
        ("v1/completions", [1], 400, "not list"),
    ],
)
def test_what_is_no_request_is_the_clients_mistake(path, body, status, says, ask):
    with pytest.raises(PredictionException, match=says) as caught:
        ask(path, body)
    assert caught.value.error_code == status


def test_the_engine_is_started_as_the_yaml_file_says(started, loop, tmp_path):
    (tmp_path / "weights").mkdir()
    settings = {
        "model_path": "weights",
        "vllm_engine_config": {"max_model_len": 64, "served_model_name": "tiny", "unknown": 1},
        "adapters": {"poet": "adapters/poet"},
        "chat_template": "template",
    }
    VLLMHandler().initialize(make_context(tmp_path, settings))
    assert started.engine.config == EngineArgs(str(tmp_path / "weights"), "tiny", 64)
    assert started.args.model == str(tmp_path / "weights")
    assert (started.args.served_model_name, started.args.max_model_len) == (["tiny"], 64)
    assert started.args.chat_template == "template"
    assert [vars(adapter) for adapter in started.args.lora_modules] == [
        {"name": "poet", "path": "adapters/poet"}
    ]
    assert started.tasks == ("generate",)
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"


def test_an_older_release_that_starts_its_services_otherwise_works(
    started, loop, tmp_path, monkeypatch
):
    def init_app_state(engine_client, vllm_config, state, args):
        assert vllm_config == "vllm config"
        state.openai_serving_models = state.openai_serving_completion = Service()
        state.openai_serving_chat = None

    monkeypatch.delitem(sys.modules, "vllm.entrypoints.launchers.api_server.app_state")
    module = ModuleType(f"{OPENAI}.api_server")
    module.init_app_state = init_app_state
    monkeypatch.setitem(sys.modules, module.__name__, module)
    handler = VLLMHandler()
    handler.initialize(make_context(tmp_path, {"vllm_engine_config": {"model": "org/tiny"}}))
    assert isinstance(handler.completion_service, Service)


def test_a_model_must_be_named(started, tmp_path):
    with pytest.raises(HandlerLoadFailed, match=r"handler\.model_path"):
        VLLMHandler().initialize(make_context(tmp_path, {}))


def test_without_vllm_the_load_fails_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(HandlerLoadFailed, match=r"needs the package vllm.*pip install vllm"):
        VLLMHandler().initialize(make_context(tmp_path, {"model_path": "m"}))
