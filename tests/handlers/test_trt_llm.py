"""The parts that are ours: the request's fields, what streams, what the engine is started with."""

import asyncio
import sys
from types import ModuleType, SimpleNamespace

import pytest

from marserve_handlers.contract import Context
from marserve_handlers.errors import HandlerLoadFailed, PredictionException
from marserve_handlers.trt_llm import TRTLLMHandler

SETTINGS = {
    "engine_dir": "engine",
    "tokenizer_dir": "tokenizer",
    "kv_cache_config": {"free_gpu_memory_fraction": 0.1},
}


class Tokenizer:
    pad_token_id = None
    eos_token_id = 2

    @classmethod
    def from_pretrained(cls, folder, **_):
        assert folder == "tokenizer"
        return cls()

    def decode(self, ids):
        return f"<{ids[0]}>"


class Sampling:
    def __init__(self, end_id, pad_id, temperature=1.0):
        self.end_id, self.pad_id, self.temperature = end_id, pad_id, temperature


class Engine:
    def __init__(self, **arguments):
        self.arguments = arguments

    async def generate_async(self, prompt, streaming, sampling_params):
        self.sampling = sampling_params
        ids = [5, 6, 7]
        for end in range(1, 4) if streaming else [3]:
            yield SimpleNamespace(outputs=[SimpleNamespace(text=f"{prompt}…", token_ids=ids[:end])])


@pytest.fixture(params=["tensorrt_llm.llmapi", "tensorrt_llm.hlapi"])
def handler(request, monkeypatch, tmp_path):
    for name, attributes in {
        "transformers": {"AutoTokenizer": Tokenizer},
        "tensorrt_llm": {},
        request.param: {"LLM": Engine, "KvCacheConfig": dict, "SamplingParams": Sampling},
    }.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    handler = TRTLLMHandler()
    handler.initialize(make_context(tmp_path, SETTINGS))
    return handler


def make_context(model_dir, settings):
    context = Context(
        model_name="m",
        manifest={"model": {}},
        model_dir=str(model_dir),
        batch_size=1,
        model_yaml_config={"handler": settings},
    )
    context.begin_batch(["r1"], [{}])
    return context


def ask(handler, tmp_path, body):
    pieces = []
    context = make_context(tmp_path, SETTINGS)
    context.send_intermediate = lambda results, _: pieces.append(results)
    return asyncio.run(handler.handle([{"body": body}], context)), pieces


def test_the_engine_is_started_as_the_yaml_file_says(handler):
    assert handler.trt_llm_engine.arguments == {
        "model": "engine",
        "tokenizer": handler.tokenizer,
        "kv_cache_config": {"free_gpu_memory_fraction": 0.1},
    }


def test_a_prompt_is_answered_with_the_text(handler, tmp_path):
    body = {"prompt": "hi", "temperature": 0.5}
    assert ask(handler, tmp_path, body) == (["hi…"], [])
    assert vars(handler.trt_llm_engine.sampling) == {"end_id": 2, "pad_id": 2, "temperature": 0.5}
    assert body == {"prompt": "hi", "temperature": 0.5}


def test_a_stream_goes_out_token_by_token_and_ends_empty(handler, tmp_path):
    answer, pieces = ask(handler, tmp_path, bytearray(b'{"prompt": "hi", "streaming": true}'))
    assert pieces == [['{"text": "<5>"}'], ['{"text": "<6>"}'], ['{"text": "<7>"}']]
    assert answer == [""]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, 'under "prompt"'),
        ({"prompt": ["a"]}, 'under "prompt"'),
        (bytearray(b"hi"), "must be a JSON object"),
        ({"prompt": "hi", "colour": 1}, "sampling parameters are wrong.*colour"),
    ],
)
def test_what_is_no_request_is_the_clients_mistake(body, says, handler, tmp_path):
    with pytest.raises(PredictionException, match=says) as caught:
        ask(handler, tmp_path, body)
    assert caught.value.error_code == 400


@pytest.mark.parametrize("missing", ["engine_dir", "tokenizer_dir"])
def test_engine_and_tokenizer_must_be_named(missing, tmp_path):
    settings = {key: value for key, value in SETTINGS.items() if key != missing}
    with pytest.raises(HandlerLoadFailed, match=rf"handler\.{missing}"):
        TRTLLMHandler().initialize(make_context(tmp_path, settings))


def test_without_the_package_the_load_fails_with_the_remedy(tmp_path, monkeypatch):
    transformers = ModuleType("transformers")
    transformers.AutoTokenizer = Tokenizer
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    monkeypatch.setitem(sys.modules, "tensorrt_llm", None)
    with pytest.raises(HandlerLoadFailed, match=r"package tensorrt_llm.*pip install tensorrt-llm"):
        TRTLLMHandler().initialize(make_context(tmp_path, SETTINGS))
