import io

import pytest
import torch

from marserve_handlers.errors import PredictionException
from marserve_handlers.testing import run_handler

MODEL_FILE = "import torch\nclass Twice(torch.nn.Module):\n  def forward(self, x): return x * 2"


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def run(tmp_path, bodies):
    (tmp_path / "model.py").write_text(MODEL_FILE)
    manifest = {"model": {"modelFile": "model.py"}}
    return run_handler("densenet_handler", bodies, model_dir=tmp_path, manifest=manifest)


def test_a_tensor_comes_back_as_a_tensor_each_to_its_sender(tmp_path):
    results = run(tmp_path, [saved(torch.tensor([1.0, 2.0])), {"data": saved(torch.zeros(2))}])
    one, two = (torch.load(io.BytesIO(result.body), weights_only=True) for result in results)
    assert (one.tolist(), two.tolist()) == ([[2.0, 4.0]], [[0.0, 0.0]])
    assert len(results[0].body) < 3000  # its own row, not the storage of the batch


@pytest.mark.parametrize(
    ("bodies", "says"),
    [
        ([b"junk"], "must be a tensor as torch.save writes it"),
        ([b""], "must be a tensor as torch.save writes it"),
        ([saved({"a": torch.zeros(1)})], "not a dict"),
        ([saved(io.StringIO)], "must be a tensor as torch.save writes it"),
        ([[1.0]], "sent as the raw body"),
        ([saved(torch.zeros(1)), saved(torch.zeros(2))], "must agree in shape"),
    ],
)
def test_what_is_no_tensor_is_the_clients_mistake(bodies, says, tmp_path):
    with pytest.raises(PredictionException, match=says) as caught:
        run(tmp_path, bodies)
    assert caught.value.error_code == 400
