import io
import json
import warnings

import pytest
import torch
from PIL import Image

from marserve_handlers.errors import PredictionException
from marserve_handlers.testing import run_handler

MODEL_FILE = """
import torch

class Finds(torch.nn.Module):
    def forward(self, images):
        return [
            {
                "boxes": torch.tensor(
                    [[0.0, 0.0, image.shape[2], image.shape[1]], [1.0, 2.0, 3.0, 4.0]]
                ),
                "labels": torch.tensor([2, 7]),
                "scores": torch.tensor([0.75, 0.5 - 0.1 * float(image.max())]),
            }
            for image in images
        ]
"""


@pytest.fixture
def model_dir(tmp_path):
    (tmp_path / "model.py").write_text(MODEL_FILE)
    (tmp_path / "index_to_name.json").write_text(json.dumps({"2": "cat"}))
    return tmp_path


def picture(color, size, mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, "PNG")
    return buffer.getvalue()


def answers(model_dir, bodies, model=None):
    manifest = {"model": model or {"modelFile": "model.py"}}
    results = run_handler("object_detector", bodies, model_dir=model_dir, manifest=manifest)
    return [result.json() for result in results]


def test_objects_come_with_label_box_and_score(model_dir):
    white, black = picture("white", (20, 10)), picture("black", (20, 10))
    found = {"cat": [0.0, 0.0, 20.0, 10.0], "score": 0.75}
    doubtful = {"7": [1.0, 2.0, 3.0, 4.0], "score": 0.5}
    assert answers(model_dir, [white, black]) == [[found], [found, doubtful]]


def test_images_of_different_sizes_share_a_batch(model_dir):
    bodies = [picture("white", (20, 10)), picture(200, (8, 9), "L")]
    boxes = [objects[0]["cat"] for objects in answers(model_dir, bodies)]
    assert boxes == [[0.0, 0.0, 20.0, 10.0], [0.0, 0.0, 8.0, 9.0]]


def test_a_torchscript_detector_gets_a_list_and_may_return_losses(tmp_path):
    class Scripted(torch.nn.Module):
        def forward(
            self, images: list[torch.Tensor]
        ) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
            losses: dict[str, torch.Tensor] = {}
            found: list[dict[str, torch.Tensor]] = []
            for image in images:
                size = torch.tensor([[0.0, 0.0, float(image.size(2)), float(image.size(1))]])
                one = torch.tensor([1])
                found.append({"boxes": size, "labels": one, "scores": torch.tensor([0.9])})
            return losses, found

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Scripted()), tmp_path / "m.pt")
    [objects] = answers(tmp_path, [picture("red", (6, 4))], {"serializedFile": "m.pt"})
    assert objects == [{"1": [0.0, 0.0, 6.0, 4.0], "score": pytest.approx(0.9)}]


def test_what_is_no_image_is_the_clients_mistake(model_dir):
    with pytest.raises(PredictionException, match="not an image") as caught:
        answers(model_dir, [b"junk"])
    assert caught.value.error_code == 400
