"""`optimize` on real handlers, with models that are slow or wrong in ways that a test can see."""

import json

import pytest
import torch

import marserve_handlers.optimize_changes as changes
from marserve_handlers.contract import Context
from marserve_handlers.errors import HandlerLoadFailed
from marserve_handlers.torch import BaseHandler
from marserve_handlers.vision import ImageClassifier

MODEL_FILE = """
import time
import torch


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.features = torch.nn.Conv2d(3, 4, 3)
        self.classes = 4

    def forward(self, images):
        name = str(images.dtype).removeprefix("torch.")
        time.sleep({delays}.get(name, 0))
        assert name not in {broken}, f"no {{name}} here"
        scores = self.features(images).mean(dim=(2, 3)) * {wrong}.get(name, 1)
        assert str(scores.dtype).removeprefix("torch.") == name
        return scores
"""
PLAIN_MODEL_FILE = """
import torch


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.features = torch.nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return self.features(images).mean(dim=(2, 3))
"""
SHAPE = [4, 3, 16, 16]
AUTO = {"auto": True, "sample": SHAPE, "budget": 0.3}


class Tensors(BaseHandler):
    """Takes rows of numbers; has no sample of its own."""


@pytest.fixture
def model_dir(tmp_path, monkeypatch):
    monkeypatch.setattr(changes, "fast_dtypes", lambda device: ["bfloat16", "float16"])
    folder = tmp_path / ("1c" * 32)
    folder.mkdir()
    return folder


@pytest.fixture
def load(model_dir):
    def load(optimize, handler=Tensors, batch_size=4, delays=None, broken=(), wrong=None, **more):
        text = MODEL_FILE.format(delays=delays or {}, broken=broken, wrong=wrong or {})
        if (delays, broken, wrong) == (None, (), None):
            text = PLAIN_MODEL_FILE
        (model_dir / "model.py").write_text(text)
        context = Context(
            "m",
            str(model_dir),
            {"model": {"modelFile": "model.py"}},
            batch_size,
            model_yaml_config={"optimize": optimize, **more},
        )
        loaded = handler()
        loaded.initialize(context)
        return loaded

    return load


def scores(handler, images):
    handler.context.begin_batch(["a"], [{}])
    return torch.tensor(handler.handle([{"body": images.tolist()}], handler.context))


def test_auto_takes_what_is_faster_and_answers_alike(load):
    handler = load(AUTO, delays={"float32": 0.02, "float16": 0.01})
    report = handler.optimization
    assert report.chosen.dtype == "bfloat16"
    assert report.trial.gain > 2
    assert report.trial.agreement is not None
    assert handler.describe_handle()["optimization"]["chosen"] == str(report.chosen)
    assert next(handler.model.parameters()).dtype == torch.bfloat16
    assert type(handler.model).__name__ == "Model"
    image = torch.randn(3, 16, 16)
    plain = load(None)
    assert plain.optimization is None
    assert plain.describe_handle() is None
    expected = scores(plain, image)
    assert torch.allclose(scores(handler, image), expected, atol=0.05)
    assert not torch.equal(scores(handler, image), expected)


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ({"wrong": {"bfloat16": 3}}, "more than tolerance 0.05"),
        ({"broken": ("bfloat16",)}, "AssertionError: no bfloat16 here"),
        ({"delays": {"bfloat16": 0.03, "float32": 0.02, "float16": 0.03}}, "times as fast"),
    ],
)
def test_auto_leaves_what_is_wrong_broken_or_slow(load, trouble, says):
    settings = AUTO | {"gain": 5}
    trouble = {"delays": {"float32": 0.01, "float16": 0.02}} | trouble
    report = load(settings, **trouble).optimization
    assert report.chosen.dtype == "float32"
    assert says in report.refused["bfloat16"]


def test_the_choice_is_found_once(load, model_dir, caplog):
    settings = AUTO
    first = load(settings, delays={"float32": 0.02, "float16": 0.02}).optimization
    with caplog.at_level("INFO"):
        second = load(settings, delays={"bfloat16": 0.02}).optimization
    assert second.is_remembered
    assert second.facts() == first.facts()
    assert "found by an earlier worker" in caplog.text
    other = load(settings | {"tolerance": 0.04}, delays={"bfloat16": 0.02}).optimization
    assert not other.is_remembered


def test_a_damaged_memory_is_no_harm(load, model_dir):
    load(AUTO, delays={"float32": 0.02, "float16": 0.02})
    [file] = model_dir.glob(".optimized*")
    file.write_text("{")
    again = load(AUTO, delays={"float32": 0.02, "float16": 0.02})
    assert not again.optimization.is_remembered
    assert again.optimization.chosen.dtype == "bfloat16"


def test_what_is_asked_for_by_name_is_applied_and_reported(load, caplog):
    settings = {"dtype": "bfloat16", "memory_format": "channels_last", "sample": SHAPE}
    with caplog.at_level("INFO"):
        handler = load(settings, delays={"float32": 0.02})
    assert handler.model.features.weight.is_contiguous(memory_format=torch.channels_last)
    assert "bfloat16 + channels_last is " in caplog.text
    assert [record.levelname for record in caplog.records if "optimize" in record.message] == [
        "INFO"
    ]


@pytest.mark.parametrize(
    ("settings", "trouble", "says"),
    [
        ({"sample": SHAPE}, {"wrong": {"bfloat16": 3}}, "more than tolerance"),
        ({"sample": SHAPE}, {"broken": ("bfloat16",)}, "no bfloat16 here"),
        ({"sample": SHAPE}, {"broken": ("float32",)}, "the plain model fails on the sample"),
        ({}, {}, "Tensors cannot make up an input to compare on"),
        ({"sample": SHAPE, "freeze": True}, {}, "freeze is for TorchScript"),
    ],
)
def test_what_cannot_be_had_is_said_and_the_model_is_served_as_it_is(
    load, settings, trouble, says, caplog
):
    handler = load({"dtype": "bfloat16"} | settings, **trouble)
    assert handler.optimization.chosen.is_plain
    assert next(handler.model.parameters()).dtype == torch.float32
    [record] = [one for one in caplog.records if one.message.startswith("optimize")]
    assert record.levelname == "WARNING"
    assert says in record.message


def test_without_a_check_it_is_applied_as_it_stands(load):
    handler = load({"dtype": "bfloat16", "check": False}, wrong={"bfloat16": 3})
    assert handler.optimization.sentence().endswith("bfloat16, not compared with the plain model")
    assert next(handler.model.parameters()).dtype == torch.bfloat16
    refused = load({"freeze": True, "check": False})
    assert "freeze is for TorchScript" in refused.optimization.sentence()


def test_a_tolerance_decides(load):
    settings = {"dtype": "bfloat16", "sample": SHAPE, "agreement": 0}
    assert load(settings | {"tolerance": 0}).optimization.chosen.is_plain
    generous = load(settings | {"tolerance": 10}, wrong={"bfloat16": 3})
    assert not generous.optimization.chosen.is_plain


def test_a_slower_change_that_was_asked_for_is_warned_of(load, caplog):
    load({"dtype": "bfloat16", "sample": SHAPE}, delays={"bfloat16": 0.02})
    assert [one.levelname for one in caplog.records if "times as fast" in one.message] == [
        "WARNING"
    ]


def test_images_are_compared_on_made_up_ones(load):
    handler = load("auto", ImageClassifier, 3, delays={"float32": 0.02, "float16": 0.03})
    assert handler.optimization.chosen.dtype == "bfloat16"
    assert handler.optimization.trial.rows == 3
    assert handler.context.request_ids is None


@pytest.mark.parametrize(
    ("name", "content"),
    [("row.json", json.dumps(torch.zeros(3, 16, 16).tolist())), ("input.pt", None)],
)
def test_a_file_of_the_archive_is_the_sample(load, model_dir, name, content):
    if content is None:
        torch.save(torch.zeros(SHAPE), model_dir / name)
    else:
        (model_dir / name).write_text(content)
    handler = load({"dtype": "bfloat16", "sample": name}, delays={"float32": 0.02})
    assert handler.optimization.chosen.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.jpg", None, "gone.jpg, which is not in the archive"),
        ("../secret", b"x", "not in the archive"),
        ("bad.json", b"{", "bad.json, which is no JSON"),
        ("bad.pt", b"x", "bad.pt, which holds no tensors"),
    ],
)
def test_a_sample_that_cannot_be_read_fails_the_load(load, model_dir, name, content, says):
    if content is not None:
        (model_dir / name).write_bytes(content)
    with pytest.raises(HandlerLoadFailed, match=says):
        load({"dtype": "bfloat16", "sample": name})


def test_a_preprocess_that_refuses_the_sample_is_said(load, model_dir):
    (model_dir / "text.txt").write_text("no numbers")
    handler = load({"auto": True, "sample": "text.txt"})
    assert "preprocess fails on the sample: PredictionException" in handler.optimization.sentence()


def test_without_room_for_a_copy_nothing_is_changed(load, monkeypatch):
    monkeypatch.setattr("marserve_handlers.optimize.available_bytes", lambda: 100)
    assert "a copy of the model" in load(AUTO).optimization.sentence()
    monkeypatch.undo()
    assert not load(AUTO).optimization.is_remembered


def test_wrong_values_fail_the_load(load):
    with pytest.raises(HandlerLoadFailed, match=r"optimize\.dtype is 'int4'"):
        load({"dtype": "int4"})
    with pytest.raises(HandlerLoadFailed, match=r"both pt2 and optimize\.compile"):
        load({"compile": True}, pt2={"compile": {"enable": True}})


def test_a_model_that_is_no_torch_module_is_left_alone(load):
    class Foreign(Tensors):
        def _load_model(self, model_dir, model_file):
            return lambda images: images

    assert "the model is a function" in load("auto", Foreign).optimization.sentence()


@pytest.fixture
def compiler():
    before = torch._dynamo.config.suppress_errors
    yield
    torch._dynamo.config.suppress_errors = before
    torch._dynamo.reset()


def test_a_model_is_compiled_before_it_is_compared(load, compiler):
    settings = {"compile": {"backend": "eager"}, "dtype": "bfloat16", "sample": SHAPE}
    handler = load(settings)
    assert handler.optimization.chosen.compile == {"backend": "eager"}
    image = torch.randn(3, 16, 16)
    assert torch.allclose(scores(handler, image), scores(load(None), image), atol=0.05)


def test_without_a_compiler_the_rest_is_applied(load, compiler, monkeypatch, caplog):
    def no_compiler(graph, inputs):
        raise RuntimeError("no C++ compiler")

    settings = {"compile": {"backend": "broken"}, "dtype": "bfloat16", "sample": SHAPE}
    torch._dynamo.register_backend(no_compiler, name="broken")
    handler = load(settings)
    assert str(handler.optimization.chosen) == "bfloat16"
    assert "no C++ compiler" in caplog.text
    automatic = load(AUTO | {"compile": {"backend": "broken"}, "budget": 5})
    assert automatic.optimization.chosen.compile is None
    assert not load(settings).optimization.is_remembered  # a compiler may be there next time
    assert "no C++ compiler" in automatic.optimization.refused["compile(backend=broken)"]
