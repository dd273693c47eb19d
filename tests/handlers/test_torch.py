import json
import logging
import warnings

import pytest
import torch

from marserve_handlers.contract import Context
from marserve_handlers.errors import HandlerLoadFailed, PredictionException
from marserve_handlers.testing import run_handler
from marserve_handlers.torch import BaseHandler

MODEL_FILE = """
import torch

class Settings:
    factor = 2.0

class Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([Settings.factor]))

    def forward(self, x):
        return x * self.weight
"""


@pytest.fixture
def eager(tmp_path):
    (tmp_path / "model.py").write_text(MODEL_FILE)
    torch.save({"weight": torch.tensor([3.0])}, tmp_path / "w.pth")
    return tmp_path, {"model": {"modelFile": "model.py", "serializedFile": "w.pth"}}


@pytest.fixture
def torchscript(tmp_path):
    class Double(torch.nn.Module):
        def forward(self, x: torch.Tensor):
            return x * 2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Double()), tmp_path / "w.pt")
    return tmp_path, {"model": {"serializedFile": "w.pt"}}


def answers(handler, model, bodies, **settings):
    model_dir, manifest = model
    results = run_handler(handler, bodies, model_dir=model_dir, manifest=manifest, **settings)
    return [result.json() for result in results]


def initialized(model, **settings):
    model_dir, manifest = model
    context = Context(
        model_name="m",
        manifest=manifest,
        model_dir=str(model_dir),
        batch_size=1,
        gpu=None,
        **settings,
    )
    handler = BaseHandler()
    handler.initialize(context)
    return handler


def test_an_eager_model_answers_each_row_of_a_batch(eager):
    bodies = [[1.0, 2.0], {"data": [3.0, 4.0]}]
    assert answers("base_handler", eager, bodies) == [[3.0, 6.0], [9.0, 12.0]]


def test_an_eager_model_without_weights_keeps_its_own(eager):
    model_dir, manifest = eager
    del manifest["model"]["serializedFile"]
    assert answers("base_handler", (model_dir, manifest), [[1.0]]) == [[2.0]]


def test_a_torchscript_model_needs_no_model_file(torchscript):
    assert answers("base_handler", torchscript, [[1.0, 2.0]]) == [[2.0, 4.0]]


def test_what_initialize_leaves_behind(eager):
    model_dir, manifest = eager
    (model_dir / "index_to_name.json").write_text(json.dumps({"0": "cat"}))
    handler = initialized(eager)
    assert handler.initialized
    assert handler.model.training is False
    assert handler.mapping == {"0": "cat"}
    assert handler.model_pt_path == str(model_dir / "w.pth")
    assert (handler.device, handler.map_location) == (torch.device("cpu"), "cpu")
    assert handler.manifest is manifest


def test_weights_that_would_run_code_are_refused(eager):
    model_dir, _ = eager
    torch.save(torch.nn.Linear(1, 1), model_dir / "w.pth")
    with pytest.raises(HandlerLoadFailed, match=r"torch\.save\(model\.state_dict\(\)"):
        initialized(eager)


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("class A: ...\nclass B: ...", ValueError, "Expected only one class as model definition"),
        ("x = 1", ValueError, "Expected only one class as model definition"),
        (MODEL_FILE + "\nclass Other(Scale): ...", ValueError, r"\['Scale', 'Other'\]"),
        ("import nothing_here", HandlerLoadFailed, "the model file model.py could not be imported"),
    ],
)
def test_a_model_file_that_does_not_define_one_model_is_refused(source, error, says, eager):
    (eager[0] / "model.py").write_text(source)
    with pytest.raises(error, match=says):
        initialized(eager)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({}, "names neither a serialized file nor a model file"),
        ({"serializedFile": "w.pth"}, "pack it with --model-file"),
        ({"serializedFile": "state.pt"}, "state.pt is not a TorchScript file"),
        ({"serializedFile": "gone.pt"}, "gone.pt, which the manifest names, is not in the archive"),
        ({"modelFile": "gone.py"}, "Missing the gone.py file"),
    ],
)
def test_an_archive_without_a_loadable_model_says_why(model, says, eager):
    model_dir, _ = eager
    torch.save({"weight": torch.tensor([3.0])}, model_dir / "state.pt")
    with pytest.raises(RuntimeError, match=says):
        initialized((model_dir, {"model": model}))


def test_a_pt_file_that_is_a_state_dict_loads_with_its_model_file(eager):
    model_dir, manifest = eager
    torch.save({"weight": torch.tensor([5.0])}, model_dir / "state.pt")
    manifest["model"]["serializedFile"] = "state.pt"
    assert answers("base_handler", (model_dir, manifest), [[1.0]]) == [[5.0]]


@pytest.mark.parametrize(
    ("bodies", "says"),
    [
        ([b"\x00"], "it came as bytearray"),
        (["text"], "it came as str"),
        ([{"body": {"a": 1}}], "it came as dict"),
        ([{}], "neither a body nor"),
        ([[1.0], [1.0, 2.0]], "The input is not a tensor"),
        ([["a"]], "The input is not a tensor"),
    ],
)
def test_a_row_that_is_no_tensor_is_the_clients_mistake(bodies, says, eager):
    with pytest.raises(PredictionException, match=says) as caught:
        answers("base_handler", eager, bodies)
    assert caught.value.error_code == 400


def test_an_output_that_is_no_tensor_is_explained(eager):
    (eager[0] / "model.py").write_text(MODEL_FILE.replace("x * self.weight", "{'out': x}"))
    with pytest.raises(TypeError, match="returned a dict, not a tensor"):
        answers("base_handler", eager, [[1.0]])


def test_the_time_of_each_batch_and_stage_is_reported(eager):
    handler = initialized(eager, model_yaml_config={"handler": {"profile": True}})
    context = handler.context
    context.begin_batch(["a"], [{}])
    handler.handle([{"body": [1.0]}], context)
    assert [(s.name, s.unit, s.kind) for s in context.metrics.drain()] == [
        ("ts_handler_preprocess", "Milliseconds", "gauge"),
        ("ts_handler_inference", "Milliseconds", "gauge"),
        ("ts_handler_postprocess", "Milliseconds", "gauge"),
        ("HandlerTime", "Milliseconds", "gauge"),
    ]


def test_a_description_is_asked_for_by_header(eager):
    class Describes(BaseHandler):
        def describe_handle(self):
            return {"about": "scales"}

    assert answers(Describes, eager, [[1.0]], headers={"describe": "True"}) == [{"about": "scales"}]
    assert answers(BaseHandler, eager, [[1.0]], headers={"describe": "True"}) == [None]


def test_an_explanation_that_nobody_can_give_is_refused(eager):
    with pytest.raises(PredictionException, match="BaseHandler has no explanations") as caught:
        answers(BaseHandler, eager, [[1.0]], headers={"explain": "True"})
    assert caught.value.error_code == 501


def test_an_explanation_comes_from_the_subclass(eager):
    class Explains(BaseHandler):
        def get_insights(self, tensor, raw, target):
            return [{"tensor": tensor.tolist(), "raw": raw, "target": target}]

    row = {"body": [1.0], "target": 4}
    assert answers(Explains, eager, [row], headers={"explain": "True"}) == [
        {"tensor": [[1.0]], "raw": [1.0], "target": 4}
    ]
    assert answers(Explains, eager, [row], headers={"explain": "False"}) == [[3.0]]


@pytest.mark.parametrize("rows", [1, 3])
def test_every_row_of_a_batch_gets_the_description(rows, eager):
    got = answers(BaseHandler, eager, [[1.0]] * rows, headers={"describe": "True"})
    assert got == [None] * rows


def test_a_model_is_compiled_as_its_yaml_file_says(eager, caplog):
    settings = {"pt2": {"compile": {"enable": True, "backend": "eager", "dynamic": True}}}
    with caplog.at_level(logging.INFO):
        got = answers("base_handler", eager, [[1.0, 2.0]], model_yaml_config=settings)
    assert got == [[3.0, 6.0]]
    assert "Compiled model with backend eager, dynamic True" in caplog.messages


def test_a_setting_that_is_no_compiler_setting_fails_the_load(eager):
    with pytest.raises(ValueError, match="pt2 should be str or dict, not int"):
        initialized(eager, model_yaml_config={"pt2": 3})


def test_the_first_device_of_the_rule_is_where_the_model_is(eager, monkeypatch):
    monkeypatch.setattr("marserve_handlers.torch.choose_device", lambda _: torch.device("meta"))
    monkeypatch.setattr("marserve_handlers.torch.prepare", lambda _: None)
    handler = initialized(eager)
    assert next(handler.model.parameters()).device.type == "meta"
    assert (handler.get_device(), handler.map_location) == (torch.device("meta"), "meta")


def test_a_library_needs_the_setting_that_allows_it(tmp_path, monkeypatch):
    (tmp_path / "m.so").write_bytes(b"native")
    model = tmp_path, {"model": {"serializedFile": "m.so"}}
    monkeypatch.setattr("torch._export.aot_load", lambda path, device: lambda x: x * 7)
    with pytest.raises(RuntimeError, match=r"m.so loads only with pt2: \{export"):
        answers("base_handler", model, [[1.0]])
    settings = {"pt2": {"export": {"aot_compile": True}}}
    assert answers("base_handler", model, [[1.0]], model_yaml_config=settings) == [[7.0]]


def test_each_stage_is_traced_when_the_server_profiles(eager, tmp_path, monkeypatch):
    monkeypatch.setenv("ENABLE_TORCH_PROFILER", "true")
    monkeypatch.setattr("marserve_handlers.profiler.TRACES", tmp_path / "traces")
    eager[1]["model"]["modelName"] = "scale"
    assert answers("base_handler", eager, [[1.0]]) == [[3.0]]
    [trace] = (tmp_path / "traces" / "scale").iterdir()
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"preprocess", "inference", "postprocess"} <= names
