import sys

import pytest

from marserve_handlers import builtin
from marserve_handlers.errors import HandlerLoadFailed


def test_every_built_in_handler_is_listed():
    assert builtin.marserve_handler_names() == [
        "base_deepspeed_handler",
        "base_handler",
        "base_pippy_handler",
        "dali_image_classifier",
        "densenet_handler",
        "echo",
        "image_classifier",
        "image_segmenter",
        "object_detector",
        "passthrough",
        "sklearn",
        "text_classifier",
        "trt_llm_handler",
        "vllm_handler",
    ]


@pytest.mark.parametrize("name", builtin.marserve_handler_names())
def test_every_listed_handler_exists_and_handles(name):
    handler = builtin.marserve_handler(name=name)
    assert callable(handler.handle)
    assert callable(handler.initialize)


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("base_handler", ["torch"]),
        ("image_classifier", ["PIL", "torch", "torchvision"]),
        ("object_detector", ["PIL", "torch", "torchvision"]),
        ("text_classifier", ["torch"]),
        ("sklearn", ["joblib", "numpy", "sklearn"]),
        ("echo", []),
        ("unknown", None),
    ],
)
def test_each_handler_says_what_to_preload(name, modules):
    assert builtin.marserve_preload(name=name) == modules


def test_an_unknown_name_is_left_to_others():
    assert builtin.marserve_handler(name="unknown") is None


def test_a_missing_framework_is_named_with_its_remedy(monkeypatch):
    monkeypatch.delitem(sys.modules, "marserve_handlers.sklearn", raising=False)
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(HandlerLoadFailed, match=r"joblib.*pip install 'marserve\[sklearn\]'"):
        builtin.marserve_handler(name="sklearn")
