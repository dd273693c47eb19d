"""Large language models run by TensorRT-LLM: a prompt in, text out, in pieces where asked for.

The handler is asynchronous: its model needs `asyncCommunication: true` in the YAML file.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

from marserve_handlers.contract import Context
from marserve_handlers.errors import HandlerLoadFailed, PredictionException
from marserve_handlers.packages import first_found, required
from marserve_handlers.prompt_request import prompt_request
from marserve_handlers.streaming import send_intermediate_predict_response
from marserve_handlers.torch import BaseHandler

_WHO: Final = "the handler trt_llm_handler"
_PLACES: Final = ("tensorrt_llm.llmapi", "tensorrt_llm.hlapi", "tensorrt_llm")


class TRTLLMHandler(BaseHandler):
    """Answers `{"prompt": …, "streaming": false, …}`, where the rest are sampling parameters.

    The YAML file's `handler` has `engine_dir`, `tokenizer_dir` and perhaps `kv_cache_config`.
    Streamed, each piece is `{"text": "…"}` as JSON and the last one is empty.

    Attributes:
        trt_llm_engine: TensorRT-LLM's engine.
        tokenizer: the tokenizer of `tokenizer_dir`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trt_llm_engine: Any = None
        self.tokenizer: Any = None
        self.model_dir: str | None = None

    def initialize(self, context: Context) -> None:
        """Load engine and tokenizer.

        Raises:
            HandlerLoadFailed: a package is missing, or the YAML file names no engine or tokenizer.
        """
        self.model_dir = str(context.system_properties["model_dir"])
        settings = context.model_yaml_config.get("handler") or {}
        for key in ("engine_dir", "tokenizer_dir"):
            if not settings.get(key):
                raise HandlerLoadFailed(f"trt_llm_handler needs handler.{key} in the YAML file")
        transformers = required("transformers", _WHO, "transformers")
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(
            settings["tokenizer_dir"],
            legacy=False,
            padding_side="left",
            truncation_side="left",
            trust_remote_code=True,
            use_fast=True,
        )
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token_id = self.tokenizer.eos_token_id
        self.trt_llm_engine = _found("LLM")(
            model=settings["engine_dir"],
            tokenizer=self.tokenizer,
            kv_cache_config=_found("KvCacheConfig")(**(settings.get("kv_cache_config") or {})),
        )
        self.initialized = True

    async def handle(self, data: Any, context: Context) -> Any:
        """The answer to one request; streamed, the pieces before the last have gone out."""
        started = time.perf_counter()
        prepared = await self.preprocess(data)
        output = await self.inference(prepared, context)
        output = await self.postprocess(output)
        duration_ms = (time.perf_counter() - started) * 1000
        context.metrics.add_time("HandlerTime", round(duration_ms, 2), None, "ms")
        return output

    async def preprocess(self, data: Any) -> Any:
        """The one request's body.

        Raises:
            PredictionException: it is no JSON object with a prompt (400).
        """
        assert len(data) == 1, "Expecting batch_size = 1"
        request = prompt_request(data[0])
        if not isinstance(request.get("prompt"), str):
            raise PredictionException('The input must have a text under "prompt".', 400)
        return request

    async def inference(self, data: Any, context: Context) -> Any:
        """The generated text.

        Raises:
            PredictionException: a sampling parameter is none that TensorRT-LLM has (400).
        """
        request = dict(data)
        prompt, streaming = request.pop("prompt"), bool(request.pop("streaming", False))
        ends = {"end_id": self.tokenizer.eos_token_id, "pad_id": self.tokenizer.pad_token_id}
        try:
            sampling = _found("SamplingParams")(**(ends | request))
        except (TypeError, ValueError) as error:
            raise PredictionException(f"The sampling parameters are wrong: {error}", 400) from error
        outputs = self.trt_llm_engine.generate_async(
            prompt, streaming=streaming, sampling_params=sampling
        )
        async for output in outputs:
            first = output.outputs[0]
            if not streaming:
                return [first.text]
            text = self.tokenizer.decode([first.token_ids[-1]])
            assert context.request_ids is not None
            send_intermediate_predict_response(
                [json.dumps({"text": text})], context.request_ids, "Result", 200, context
            )
        return [""]

    async def postprocess(self, data: Any) -> Any:
        """The same; subclasses may add something."""
        return data


def _found(name: str) -> Any:
    return first_found(name, _PLACES, _WHO, "tensorrt-llm")
