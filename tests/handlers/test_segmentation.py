import io

import pytest
import torch
from PIL import Image

from marserve_handlers.testing import run_handler

MODEL_FILE = """
import torch

class Segments(torch.nn.Module):
    def forward(self, images):
        scores = images * 100
        return RESULT
"""


def picture():
    """The upper half red, the lower half blue."""
    image = Image.new("RGB", (300, 260), "red")
    image.paste("blue", (0, 130, 300, 260))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("result", ["{'out': scores, 'aux': None}", "scores"])
def test_every_pixel_has_its_likeliest_class_and_how_likely_it_is(result, tmp_path):
    (tmp_path / "model.py").write_text(MODEL_FILE.replace("RESULT", result))
    manifest = {"model": {"modelFile": "model.py"}}
    results = run_handler(
        "image_segmenter", [picture(), picture()], model_dir=tmp_path, manifest=manifest
    )
    for answer in (torch.tensor(result.json()) for result in results):
        assert answer.shape == (224, 224, 2)
        assert answer[0, 0].tolist() == [0.0, 1.0]
        assert answer[223, 100].tolist() == [2.0, 1.0]
        assert set(answer[:, :, 0].unique().tolist()) == {0.0, 2.0}
