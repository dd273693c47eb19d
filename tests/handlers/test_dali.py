"""The parts that are ours: what the pipeline is made from, is fed, and what becomes of it."""

import sys
from types import ModuleType

import numpy as np
import pytest

from marserve_handlers.contract import Context
from marserve_handlers.dali import DALIImageClassifier
from marserve_handlers.errors import HandlerLoadFailed, PredictionException
from marserve_handlers.testing import run_handler

MODEL_FILE = "import torch\nclass Mean(torch.nn.Module):\n  def forward(self, x): return x.float()"
SETTINGS = {"batch_size": 4, "num_threads": 1, "device_id": 0, "seed": 7}


class OnGpu:
    def __init__(self, arrays):
        self.arrays = arrays

    def as_cpu(self):
        return self

    def at(self, index):
        return self.arrays[index]


class Pipeline:
    """Gives back the first three bytes of each file."""

    made = ()

    @classmethod
    def deserialize(cls, **arguments):
        cls.made = arguments
        return cls()

    def __init__(self):
        self.is_broken = False

    def run(self, source):
        if self.is_broken or any(bytes(file) == b"junk" for file in source):
            self.is_broken = True
            raise RuntimeError("Critical error in pipeline")
        assert len(source) <= SETTINGS["batch_size"]
        return (OnGpu([np.array(file[:3], dtype=np.float32) for file in source]),)


@pytest.fixture
def model_dir(tmp_path, monkeypatch):
    (tmp_path / "model.py").write_text(MODEL_FILE)
    (tmp_path / "p.dali").write_bytes(b"pipeline")
    for name in ("nvidia", "nvidia.dali", "nvidia.dali.pipeline", "nvidia.dali.fn"):
        module = ModuleType(name)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["nvidia.dali"].pipeline = sys.modules["nvidia.dali.pipeline"]
    sys.modules["nvidia.dali.pipeline"].Pipeline = Pipeline
    return tmp_path


def answers(model_dir, bodies, dali):
    results = run_handler(
        "dali_image_classifier",
        bodies,
        model_dir=model_dir,
        manifest={"model": {"modelFile": "model.py"}},
        model_yaml_config={"dali": dali},
    )
    return [result.json() for result in results]


def test_files_go_through_the_pipeline_of_the_archive(model_dir):
    bodies = [b"\x09\x00\x00rest", {"data": b"\x00\x00\x09"}]
    one, two = answers(model_dir, bodies, SETTINGS | {"pipeline_file": "p.dali"})
    assert (next(iter(one)), next(iter(two))) == ("0", "2")
    assert sum(one.values()) == pytest.approx(1)
    assert Pipeline.made == SETTINGS | {
        "filename": str(model_dir / "p.dali"),
        "prefetch_queue_depth": 1,
    }


def test_a_batch_larger_than_the_pipelines_goes_through_it_in_parts(model_dir):
    bodies = [bytes([9 if place == index % 3 else 0 for place in range(3)]) for index in range(9)]
    got = answers(model_dir, bodies, SETTINGS | {"pipeline_file": "p.dali"})
    assert [next(iter(answer)) for answer in got] == ["0", "1", "2"] * 3


def test_a_broken_image_does_not_break_the_pipeline_for_the_next(model_dir, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "model", None)  # what is imported here goes again
    handler = DALIImageClassifier()
    context = Context(
        model_name="m",
        manifest={"model": {"modelFile": "model.py"}},
        model_dir=str(model_dir),
        batch_size=1,
        model_yaml_config={"dali": SETTINGS | {"pipeline_file": "p.dali"}},
    )
    handler.initialize(context)
    context.begin_batch(["a"], [{}])
    with pytest.raises(PredictionException, match="DALI cannot read the image") as caught:
        handler.handle([{"body": b"junk"}], context)
    assert caught.value.error_code == 400
    assert len(handler.handle([{"body": b"\x01\x02\x03"}], context)) == 1


@pytest.mark.parametrize("body", ["text", b"", [1, 2]])
def test_what_is_no_file_is_the_clients_mistake(body, model_dir):
    with pytest.raises(PredictionException, match="must be an image file") as caught:
        answers(model_dir, [body], SETTINGS | {"pipeline_file": "p.dali"})
    assert caught.value.error_code == 400


@pytest.mark.parametrize(
    ("dali", "says"),
    [
        (None, "no dali config in model config yaml file"),
        ({"batch_size": 1}, "lacks device_id, num_threads, seed"),
        (SETTINGS | {"pipeline_file": "../gone.dali"}, "gone.dali is missing in the archive"),
    ],
)
def test_an_incomplete_description_of_the_pipeline_is_refused(dali, says, model_dir):
    with pytest.raises(HandlerLoadFailed, match=says):
        answers(model_dir, [b"x"], dali)


def test_without_dali_the_load_fails_with_the_remedy(model_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(HandlerLoadFailed, match=r"needs the package nvidia.*nvidia-dali-cuda"):
        answers(model_dir, [b"x"], SETTINGS)
