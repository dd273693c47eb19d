import base64
import io
import json
import sys

import pytest
import torch
from PIL import Image

from marserve_handlers.errors import PredictionException
from marserve_handlers.testing import run_handler
from marserve_handlers.vision import ImageClassifier, VisionHandler

MODEL_FILE = """
import torch

class Channels(torch.nn.Module):
    def forward(self, images):
        assert images.shape[1:] == (3, 224, 224), images.shape
        return images.mean(dim=(2, 3)) * 10
"""
NAMES = {"0": "red", "1": ["n1", "green"], "2": "blue"}


@pytest.fixture
def model_dir(tmp_path):
    (tmp_path / "model.py").write_text(MODEL_FILE)
    (tmp_path / "index_to_name.json").write_text(json.dumps(NAMES))
    return tmp_path


def picture(color, mode="RGB", size=(300, 260)):
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, "PNG")
    return buffer.getvalue()


def answers(model_dir, bodies, handler=ImageClassifier, **settings):
    manifest = {"model": {"modelFile": "model.py"}}
    results = run_handler(handler, bodies, model_dir=model_dir, manifest=manifest, **settings)
    return [result.json() for result in results]


def test_each_image_of_a_batch_gets_its_likeliest_classes(model_dir):
    pixels = torch.zeros(3, 224, 224)
    pixels[2] = 1
    rows = [
        picture("red"),
        {"data": picture("#00ff00")},
        base64.b64encode(picture("blue")).decode(),
        pixels.tolist(),
    ]
    got = answers(model_dir, rows)
    assert [next(iter(answer)) for answer in got] == ["red", "green", "blue", "blue"]
    for answer in got:
        assert list(answer.values()) == sorted(answer.values(), reverse=True)
        assert sum(answer.values()) == pytest.approx(1)
        assert set(answer) == {"red", "green", "blue"}


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "I;16"])
def test_images_of_every_mode_are_classified(mode, model_dir):
    [answer] = answers(model_dir, [picture(None, mode)])
    assert len(answer) == 3


def test_only_as_many_classes_are_named_as_asked_for(model_dir):
    class Best(ImageClassifier):
        def initialize(self, context):
            super().initialize(context)
            self.set_max_result_classes(1)
            assert self.get_max_result_classes() == 1

    assert [list(answer) for answer in answers(model_dir, [picture("red")], Best)] == [["red"]]


def test_without_names_the_index_is_the_name(model_dir):
    (model_dir / "index_to_name.json").unlink()
    assert next(iter(answers(model_dir, [picture("red")])[0])) == "0"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"no image", r"not an image that can be read \(UnidentifiedImageError\)"),
        (picture("red")[:-80], "not an image that can be read"),
        (b"", "not an image"),
        ("%%%", "not (an image|the base64)"),
        ({"body": {"a": 1}}, "not dict"),
        ([["a"]], "not a tensor"),
        ({}, "neither a body"),
    ],
)
def test_what_is_no_image_is_the_clients_mistake(body, says, model_dir):
    with pytest.raises(PredictionException, match=says) as caught:
        answers(model_dir, [body])
    assert caught.value.error_code == 400


def test_a_subclass_decides_how_an_image_becomes_a_tensor(model_dir):
    (model_dir / "model.py").write_text(
        "import torch\nclass Flat(torch.nn.Module):\n  def forward(self, x): return x.sum(dim=1)"
    )

    class Grey(VisionHandler):
        def image_processing(self, image):
            return torch.tensor(list(image.convert("L").tobytes()), dtype=torch.float32)

    assert answers(model_dir, [picture("white", size=(2, 2))], Grey) == [1020.0]


@pytest.mark.parametrize("limit", [True, False])
def test_the_limit_on_pixels_can_be_lifted(limit, model_dir, monkeypatch):
    from marserve_handlers.contract import Context

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    context = Context(
        model_name="m",
        manifest={"model": {"modelFile": "model.py"}},
        model_dir=str(model_dir),
        batch_size=1,
        gpu=None,
        limit_max_image_pixels=limit,
    )
    handler = ImageClassifier()
    handler.initialize(context)
    context.begin_batch(["a"], [{}])
    if limit:
        with pytest.raises(PredictionException, match="DecompressionBombError"):
            handler.handle([{"body": picture("red")}], context)
    else:
        assert len(handler.handle([{"body": picture("red")}], context)) == 1


# --- explanations ---------------------------------------------------------------------------------

EXPLAIN = {"headers": {"explain": "True"}}


@pytest.mark.parametrize("target", [1, "1", b"1", bytearray(b"1")])
def test_an_explanation_points_at_the_pixels_that_speak_for_the_class(target, model_dir):
    rows = [{"data": picture("#00ff00"), "target": target}, {"data": picture("white")}]
    explained, other = answers(model_dir, rows, **EXPLAIN)
    by_channel = torch.tensor(explained).sum(dim=(1, 2))
    assert torch.tensor(explained).shape == (3, 224, 224)
    assert by_channel.nonzero().flatten().tolist() == [1]
    assert torch.tensor(other).sum(dim=(1, 2)).nonzero().flatten().tolist() == [1]


@pytest.mark.parametrize(
    ("target", "says"), [("cat", "is the index of a class, not 'cat'"), (9, "has no class 9")]
)
def test_a_class_that_the_model_does_not_have_is_the_clients_mistake(target, says, model_dir):
    with pytest.raises(PredictionException, match=says) as caught:
        answers(model_dir, [{"data": picture("red"), "target": target}], **EXPLAIN)
    assert caught.value.error_code == 400


def test_an_explanation_without_captum_names_the_package(model_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(PredictionException, match=r"captum.*'marserve\[explain\]'") as caught:
        answers(model_dir, [picture("red")], **EXPLAIN)
    assert caught.value.error_code == 501


def test_a_handler_may_bring_its_own_explainer(model_dir):
    class Own(ImageClassifier):
        def initialize(self, context):
            super().initialize(context)
            self.ig = self

        def attribute(self, images, target, n_steps):
            return torch.full((len(images), 1), float(target))

    assert answers(model_dir, [{"data": picture("red"), "target": 2}], Own, **EXPLAIN) == [[2.0]]
