"""Models too large for one device: what handlers of torchrun's processes extend and call.

A worker of several processes gets `LOCAL_RANK` and `WORLD_SIZE` from its launcher; each process has
a handler of its own.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import os
from pathlib import Path
from typing import Any, Final

import torch

from marserve_handlers.contract import Context
from marserve_handlers.errors import HandlerLoadFailed
from marserve_handlers.packages import required
from marserve_handlers.torch import BaseHandler

_PIPPY: Final = "base_pippy_handler"
_log = logging.getLogger("marserve_handlers.distributed")


class BasePippyHandler(BaseHandler):
    """For subclasses that cut a model into stages with PiPPy, one per process.

    Attributes:
        local_rank: which of the processes this is.
        world_size: how many there are.
        device: the number of this process's device.
    """

    def initialize(self, context: Context) -> None:
        """Join the processes of the worker; the subclass loads the model.

        Raises:
            HandlerLoadFailed: the process was not started by torchrun, there is no GPU, or the
                YAML file's `pippy` is incomplete.
        """
        self.local_rank = _from_launcher("LOCAL_RANK")
        self.world_size = _from_launcher("WORLD_SIZE")
        self.device: Any = self.local_rank % _devices()
        initialize_rpc_workers(self.local_rank, self.world_size, context)


class BaseDeepSpeedHandler(BaseHandler):
    """For subclasses that run a model with DeepSpeed, a part of it in each process."""

    def initialize(self, context: Context) -> None:
        """Find this process's device; the subclass loads the model with `get_ds_engine`."""
        self.device: Any = int(os.environ.get("LOCAL_RANK", "0"))


def initialize_rpc_workers(local_rank: int, world_size: int, ctx: Context) -> None:
    """Join the remote calls between the processes of a worker.

    Raises:
        HandlerLoadFailed: there is no GPU, or `pippy` in the YAML file lacks `rpc_timeout` or
            `num_worker_threads`.
    """
    settings = _section(ctx, "pippy", ("rpc_timeout", "num_worker_threads"))
    rpc: Any = importlib.import_module("torch.distributed.rpc")
    options = rpc.TensorPipeRpcBackendOptions(
        num_worker_threads=settings["num_worker_threads"], rpc_timeout=settings["rpc_timeout"]
    )
    devices = _devices()
    own = local_rank % devices
    for rank in range(world_size):
        options.set_device_map(f"worker{rank}", {own: rank % devices})
    _log.info("rank = %d pid/device = %d/%d", local_rank, os.getpid(), own)
    rpc.init_rpc(
        f"worker{local_rank}", rank=local_rank, world_size=world_size, rpc_backend_options=options
    )


def get_pipeline_driver(model: torch.nn.Module, world_size: int, ctx: Context) -> Any:
    """The model cut into `world_size` stages by PiPPy, to be called as before.

    Raises:
        HandlerLoadFailed: PiPPy is not installed, or `pippy` or `handler` in the YAML file is
            incomplete.
    """
    settings = _section(ctx, "pippy", ("input_names", "model_type"))
    handler = _section(ctx, "handler", ("model_path",))
    pippy = required("pippy", f"the handler {_PIPPY}", "torchpippy")
    index = handler.get("index_filename")
    index_file = None if index is None else Path(handler["model_path"]) / index
    if index_file is not None and not index_file.exists():
        raise HandlerLoadFailed(f"handler.index_filename: there is no file {index}")
    model.eval()
    concrete = {
        name: parameter.default
        for name, parameter in inspect.signature(model.forward).parameters.items()
        if name not in settings["input_names"]
    }
    hugging_face: Any = None
    if settings["model_type"] == "HF":
        hugging_face = required("pippy.hf", f"the handler {_PIPPY}", "torchpippy transformers")
        if "bloom" in str(type(model)):
            concrete.setdefault("deprecated_arguments", {})
    driver, _ = pippy.all_compile(
        model,
        num_ranks=world_size,
        num_chunks=settings.get("chunks", 1),
        schedule="FillDrain",
        split_policy=pippy.split_into_equal_size(world_size),
        tracer=None if hugging_face is None else hugging_face.PiPPyHFTracer(),
        concrete_args=concrete,
        index_filename=None if index_file is None else str(index_file),
        checkpoint_prefix=None,
    )
    if hugging_face is None:
        return driver
    hugging_face.inject_pipeline_forward(model, driver)
    return model


def get_ds_engine(model: torch.nn.Module, ctx: Context) -> Any:
    """The model as an inference engine of DeepSpeed.

    Raises:
        HandlerLoadFailed: DeepSpeed is not installed, or `deepspeed` or `handler` in the YAML file
            is incomplete.
    """
    settings = _section(ctx, "deepspeed", ())
    model_path = _section(ctx, "handler", ("model_path",))["model_path"]
    model_dir = Path(ctx.system_properties["model_dir"])
    config, checkpoint = settings.get("config"), settings.get("checkpoint")
    if config is not None and not (model_dir / config).exists():
        raise HandlerLoadFailed(f"{ctx.model_name} has no deepspeed config file {config}")
    deepspeed = required("deepspeed", "the handler base_deepspeed_handler", "deepspeed")
    if checkpoint is not None:
        create_checkpoints_json(model_path, str(model_dir / checkpoint))
    return deepspeed.init_inference(
        model,
        config=None if config is None else str(model_dir / config),
        base_dir=model_path,
        checkpoint=None if checkpoint is None else str(model_dir / checkpoint),
    )


def create_checkpoints_json(model_path: str, checkpoints_json: str) -> None:
    """Write the list of a model's weight files (`*.bin`) that DeepSpeed reads."""
    files = sorted(str(entry) for entry in Path(model_path).rglob("*.bin") if entry.is_file())
    listing = {"type": "ds_model", "checkpoints": files, "version": 1.0}
    Path(checkpoints_json).write_text(json.dumps(listing), encoding="utf-8")


def _section(ctx: Context, name: str, keys: tuple[str, ...]) -> dict[str, Any]:
    section = ctx.model_yaml_config.get(name)
    if not isinstance(section, dict):
        raise HandlerLoadFailed(f"{ctx.model_name} has no {name} config in model config yaml file")
    missing = [key for key in keys if key not in section]
    if missing:
        raise HandlerLoadFailed(f"{name} in the YAML file lacks {', '.join(missing)}")
    return section


def _from_launcher(variable: str) -> int:
    value = os.environ.get(variable)
    if value is None:
        raise HandlerLoadFailed(
            f"{_PIPPY} runs in processes that torchrun starts, and {variable} is not set; say "
            "parallelType: pp and torchrun: {nproc-per-node: …} in the YAML file"
        )
    return int(value)


def _devices() -> int:
    count = torch.cuda.device_count()
    if not count:
        raise HandlerLoadFailed(f"{_PIPPY} needs a GPU, and torch finds none")
    return count
