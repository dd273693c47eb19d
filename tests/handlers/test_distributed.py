"""The parts that are ours: what torchrun and the YAML file must say, and what is made of it."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from marserve_handlers.contract import Context
from marserve_handlers.distributed import (
    BaseDeepSpeedHandler,
    BasePippyHandler,
    get_ds_engine,
    get_pipeline_driver,
    initialize_rpc_workers,
)
from marserve_handlers.errors import HandlerLoadFailed

PIPPY = {"rpc_timeout": 60, "num_worker_threads": 8}


def make_context(settings, model_dir="."):
    return Context(
        model_name="big",
        manifest={"model": {}},
        model_dir=str(model_dir),
        batch_size=1,
        model_yaml_config=settings,
    )


@pytest.fixture
def rpc(monkeypatch):
    """Fake remote calls; what was asked of them."""
    seen = SimpleNamespace(maps={})

    class Options:
        def __init__(self, **arguments):
            seen.options = arguments

        def set_device_map(self, worker, devices):
            seen.maps[worker] = devices

    def init_rpc(name, rank, world_size, rpc_backend_options):
        seen.joined = (name, rank, world_size)

    module = ModuleType("torch.distributed.rpc")
    module.TensorPipeRpcBackendOptions, module.init_rpc = Options, init_rpc
    monkeypatch.setitem(sys.modules, "torch.distributed.rpc", module)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return seen


def test_each_process_joins_with_a_device_of_its_own(rpc, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    handler = BasePippyHandler()
    handler.initialize(make_context({"pippy": PIPPY}))
    assert (handler.local_rank, handler.world_size, handler.device) == (3, 4, 1)
    assert rpc.joined == ("worker3", 3, 4)
    assert rpc.options == {"num_worker_threads": 8, "rpc_timeout": 60}
    assert rpc.maps == {f"worker{rank}": {1: rank % 2} for rank in range(4)}


def test_a_process_that_torchrun_did_not_start_is_told_so(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(HandlerLoadFailed, match=r"LOCAL_RANK is not set.*parallelType: pp"):
        BasePippyHandler().initialize(make_context({"pippy": PIPPY}))


def test_pipelines_need_a_gpu(rpc, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(HandlerLoadFailed, match="needs a GPU"):
        initialize_rpc_workers(0, 1, make_context({"pippy": PIPPY}))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "big has no pippy config in model config yaml file"),
        ({"pippy": {"rpc_timeout": 1}}, "pippy in the YAML file lacks num_worker_threads"),
    ],
)
def test_an_incomplete_yaml_file_is_refused(settings, says, rpc):
    with pytest.raises(HandlerLoadFailed, match=says):
        initialize_rpc_workers(0, 1, make_context(settings))


class Model(torch.nn.Module):
    def forward(self, text, mask=None, cache=5):
        return text


DRIVER = {"pippy": {"input_names": ["text"], "model_type": "HF", "chunks": 2}}


@pytest.fixture
def pippy(monkeypatch):
    seen = SimpleNamespace()

    def all_compile(model, **arguments):
        seen.arguments = arguments
        return "driver", "stages"

    pippy, hugging_face = ModuleType("pippy"), ModuleType("pippy.hf")
    pippy.all_compile, pippy.split_into_equal_size = all_compile, lambda count: ("split", count)
    pippy.hf = hugging_face
    hugging_face.PiPPyHFTracer = lambda: "tracer"
    hugging_face.inject_pipeline_forward = lambda model, driver: setattr(model, "driver", driver)
    monkeypatch.setitem(sys.modules, "pippy", pippy)
    monkeypatch.setitem(sys.modules, "pippy.hf", hugging_face)
    return seen


def test_a_hugging_face_model_keeps_its_face_before_the_pipeline(pippy, tmp_path):
    (tmp_path / "index.json").touch()
    handler = {"model_path": str(tmp_path), "index_filename": "index.json"}
    model = Model()
    assert get_pipeline_driver(model, 4, make_context(DRIVER | {"handler": handler})) is model
    assert model.driver == "driver"
    assert not model.training
    assert pippy.arguments == {
        "num_ranks": 4,
        "num_chunks": 2,
        "schedule": "FillDrain",
        "split_policy": ("split", 4),
        "tracer": "tracer",
        "concrete_args": {"mask": None, "cache": 5},
        "index_filename": str(tmp_path / "index.json"),
        "checkpoint_prefix": None,
    }


def test_any_other_model_is_replaced_by_the_driver(pippy):
    settings = {
        "pippy": {"input_names": ["text"], "model_type": "own"},
        "handler": {"model_path": "."},
    }
    assert get_pipeline_driver(Model(), 2, make_context(settings)) == "driver"
    assert (pippy.arguments["tracer"], pippy.arguments["num_chunks"]) == (None, 1)


def test_an_index_that_is_not_there_is_said(pippy):
    handler = {"model_path": ".", "index_filename": "gone.json"}
    with pytest.raises(HandlerLoadFailed, match=r"there is no file gone\.json"):
        get_pipeline_driver(Model(), 2, make_context(DRIVER | {"handler": handler}))


def test_without_pippy_the_load_fails_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pippy", None)
    with pytest.raises(HandlerLoadFailed, match=r"needs the package pippy.*pip install torchpippy"):
        get_pipeline_driver(Model(), 2, make_context(DRIVER | {"handler": {"model_path": "."}}))


# --- DeepSpeed ------------------------------------------------------------------------------------


def test_a_deepspeed_process_has_the_device_of_its_rank(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    handler = BaseDeepSpeedHandler()
    handler.initialize(make_context({}))
    assert handler.device == 2


def test_the_engine_gets_its_files(tmp_path, monkeypatch):
    deepspeed = ModuleType("deepspeed")
    deepspeed.init_inference = lambda model, **arguments: arguments
    monkeypatch.setitem(sys.modules, "deepspeed", deepspeed)
    weights = tmp_path / "weights" / "deep"
    weights.mkdir(parents=True)
    for name in ("b.bin", "a.bin", "readme.txt"):
        (weights / name).touch()
    (tmp_path / "ds.json").write_text("{}")
    settings = {
        "deepspeed": {"config": "ds.json", "checkpoint": "list.json"},
        "handler": {"model_path": str(tmp_path / "weights")},
    }
    assert get_ds_engine(Model(), make_context(settings, tmp_path)) == {
        "config": str(tmp_path / "ds.json"),
        "base_dir": str(tmp_path / "weights"),
        "checkpoint": str(tmp_path / "list.json"),
    }
    assert json.loads((tmp_path / "list.json").read_text()) == {
        "type": "ds_model",
        "checkpoints": [str(weights / "a.bin"), str(weights / "b.bin")],
        "version": 1.0,
    }


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"handler": {"model_path": "."}}, "big has no deepspeed config in model config yaml file"),
        ({"deepspeed": {}, "handler": {}}, "handler in the YAML file lacks model_path"),
        (
            {"deepspeed": {"config": "gone.json"}, "handler": {"model_path": "."}},
            "big has no deepspeed config file gone.json",
        ),
        (
            {"deepspeed": {}, "handler": {"model_path": "."}},
            "needs the package deepspeed.*pip install deepspeed",
        ),
    ],
)
def test_what_deepspeed_lacks_is_said(settings, says, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(HandlerLoadFailed, match=says):
        get_ds_engine(Model(), make_context(settings))
