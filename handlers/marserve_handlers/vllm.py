"""Large language models behind OpenAI's API, run by vLLM.

The path after the model's name says which API is meant; vLLM's own services answer. The handler is
asynchronous: its model needs `asyncCommunication: true` in the YAML file.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from marserve_handlers.contract import Context
from marserve_handlers.errors import HandlerLoadFailed, PredictionException
from marserve_handlers.packages import first_found, required
from marserve_handlers.prompt_request import prompt_request
from marserve_handlers.streaming import send_intermediate_predict_response
from marserve_handlers.torch import BaseHandler

_WHO: Final = "the handler vllm_handler"
_OPENAI: Final = "vllm.entrypoints.openai"
_DONE: Final = "data: [DONE]\n\n"

_APIS: Final = {
    "v1/completions": ("completion_service", "create_completion", "CompletionRequest"),
    "v1/chat/completions": (
        "chat_completion_service",
        "create_chat_completion",
        "ChatCompletionRequest",
    ),
}
_PLACES: Final = {
    "CompletionRequest": (f"{_OPENAI}.completion.protocol", f"{_OPENAI}.protocol"),
    "ChatCompletionRequest": (f"{_OPENAI}.chat_completion.protocol", f"{_OPENAI}.protocol"),
    "LoRAModulePath": (
        f"{_OPENAI}.models.protocol",
        f"{_OPENAI}.serving_models",
        f"{_OPENAI}.serving_engine",
    ),
    "FlexibleArgumentParser": ("vllm.utils.argparse_utils", "vllm.utils"),
    "make_arg_parser": ("vllm.entrypoints.common.cli_args", f"{_OPENAI}.cli_args"),
    "init_app_state": (
        "vllm.entrypoints.launchers.api_server.app_state",
        f"{_OPENAI}.api_server",
    ),
}
"""Where releases of vLLM keep what the handler uses, the newest first."""


class VLLMHandler(BaseHandler):
    """Answers `v1/models`, `v1/completions` and `v1/chat/completions`, streamed where asked for.

    The YAML file's `handler` has `model_path` (a folder of the archive, or a name) or
    `vllm_engine_config` with any field of vLLM's `AsyncEngineArgs`, and may have `adapters` (name
    to path) and `chat_template`.

    Attributes:
        vllm_engine: vLLM's asynchronous engine.
        adapters: LoRA adapters, name to path.
        chat_completion_service: vLLM's service of this API, as the one below.
        completion_service: the same for plain completions.
        model_service: vLLM's list of the models it serves.
    """

    def __init__(self) -> None:
        super().__init__()
        self.vllm_engine: Any = None
        self.model_name: str | None = None
        self.model_dir: str | None = None
        self.lora_ids: dict[str, Any] = {}
        self.adapters: dict[str, str] = {}
        self.chat_completion_service: Any = None
        self.completion_service: Any = None
        self.model_service: Any = None
        self.raw_request: Any = None

    def initialize(self, context: Context) -> None:
        """Start the engine.

        Raises:
            HandlerLoadFailed: vLLM is not installed, or no model is named.
        """
        self.model_dir = str(context.system_properties["model_dir"])
        settings = context.model_yaml_config.get("handler") or {}
        vllm = required("vllm", _WHO, "vllm")
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
        self.adapters = settings.get("adapters") or {}
        config = self._get_vllm_engine_config(settings)
        self.vllm_engine = vllm.AsyncLLMEngine.from_engine_args(config)
        _current_loop().run_until_complete(self._start_services(config, settings))
        self.raw_request = SimpleNamespace(
            headers={}, state=SimpleNamespace(), is_disconnected=_never
        )
        self.initialized = True

    async def handle(self, data: Any, context: Context) -> Any:
        """The answer to one request; with `stream` the pieces before the last have gone out."""
        started = time.perf_counter()
        prepared = await self.preprocess(data, context)
        output = await self.inference(prepared, context)
        output = await self.postprocess(output)
        duration_ms = (time.perf_counter() - started) * 1000
        context.metrics.add_time("HandlerTime", round(duration_ms, 2), None, "ms")
        return output

    async def preprocess(self, data: Any, context: Context | None = None) -> Any:
        """The one request's body.

        Raises:
            PredictionException: it is no JSON object (400).
        """
        assert len(data) == 1, "Expecting batch_size = 1"
        return [prompt_request(data[0])]

    async def inference(self, input_batch: Any, context: Context) -> Any:
        """What the API that the request's path names has to say.

        Raises:
            PredictionException: there is no such API (404), or the request is not one of it (400).
        """
        path = context.get_request_header(0, "url_path")
        if path == "v1/models":
            return [(await self.model_service.show_available_models()).model_dump()]
        if path not in _APIS:
            raise PredictionException(f"Unknown API endpoint: {path}", 404)
        service, method, kind = _APIS[path]
        request_type = _found(kind)
        try:
            request = request_type.model_validate(input_batch[0])
        except ValueError as error:
            raise PredictionException(f"The request is not one of {path}: {error}", 400) from error
        answer = await getattr(getattr(self, service), method)(request, self.raw_request)
        if hasattr(answer, "model_dump"):
            _tell_status(answer, context)
            return [answer.model_dump()]
        return [await _streamed(answer, context)]

    async def postprocess(self, data: Any) -> Any:
        """The same; subclasses may add something."""
        return data

    async def _start_services(self, config: Any, settings: dict[str, Any]) -> None:
        """Have vLLM build its services; which arguments it wants for that changes by release."""
        arguments = _found("make_arg_parser")(_found("FlexibleArgumentParser")()).parse_args([])
        for name, value in vars(config).items():
            if hasattr(arguments, name):
                setattr(arguments, name, value)
        served = arguments.served_model_name
        arguments.served_model_name = [served] if isinstance(served, str) else served
        arguments.chat_template = settings.get("chat_template")
        if self.adapters:
            adapter = _found("LoRAModulePath")
            arguments.lora_modules = [
                adapter(name=name, path=path) for name, path in self.adapters.items()
            ]
        state = SimpleNamespace()
        offered = {
            "engine_client": self.vllm_engine,
            "state": state,
            "args": arguments,
            "vllm_config": getattr(self.vllm_engine, "vllm_config", None),
            "model_config": getattr(self.vllm_engine, "model_config", None),
            "supported_tasks": await _called(self.vllm_engine, "get_supported_tasks"),
        }
        start = _found("init_app_state")
        wanted = inspect.signature(start).parameters
        started = start(**{name: offered[name] for name in wanted if name in offered})
        if inspect.isawaitable(started):
            await started
        self.completion_service = state.openai_serving_completion
        self.chat_completion_service = state.openai_serving_chat
        self.model_service = state.openai_serving_models

    def _get_vllm_engine_config(self, handler_config: dict[str, Any]) -> Any:
        """The `AsyncEngineArgs` of the YAML file's `handler`."""
        fields = handler_config.get("vllm_engine_config") or {}
        model = fields.get("model") or handler_config.get("model_path")
        if not model:
            raise HandlerLoadFailed(
                "vllm_handler needs a model: name it in the YAML file as handler.model_path, or "
                "as handler.vllm_engine_config.model"
            )
        packed = Path(self.model_dir or ".") / model
        if not fields.get("model") and packed.exists():
            model = packed.as_posix()
        config = required("vllm", _WHO, "vllm").AsyncEngineArgs(model=model)
        known = vars(config)
        for name, value in fields.items():
            if name in known:
                setattr(config, name, value)
        return config


def _found(name: str) -> Any:
    return first_found(name, _PLACES[name], _WHO, "vllm")


async def _called(owner: Any, method: str) -> Any:
    """What a method that not every release has returns; None without it."""
    function = getattr(owner, method, None)
    return None if function is None else await function()


def _tell_status(answer: Any, context: Context) -> None:
    """Give vLLM's refusals the status that clients of OpenAI's API look at."""
    code = getattr(getattr(answer, "error", answer), "code", None)
    if isinstance(code, int) and 400 <= code <= 599:
        context.set_response_status(code)


async def _streamed(pieces: Any, context: Context) -> str:
    """Send the pieces as they come; the last one is the result."""
    last = ""
    async for piece in pieces:
        last = piece
        if piece != _DONE:
            assert context.request_ids is not None
            send_intermediate_predict_response([piece], context.request_ids, "Result", 200, context)
    return last if last == _DONE else ""


async def _never() -> bool:
    return False


def _current_loop() -> asyncio.AbstractEventLoop:
    """The worker's loop, which will also run `handle`; the engine belongs to one loop."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return asyncio.get_event_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        return loop
