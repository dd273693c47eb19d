"""The examples' training scripts and handlers, in this process, without a server."""

import importlib.util
import io
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from marserve_handlers.errors import PredictionException
from marserve_handlers.testing import run_handler

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(path):
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def packed(example, files, out_dir):
    for name in files:
        shutil.copy(EXAMPLES / example / name, out_dir)
    return out_dir


# --- digits ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("digits") / "out"
    lines = []
    accuracy = load(EXAMPLES / "digits" / "train.py").train(out_dir, lines.append)
    return packed("digits", ("model.py", "digits_handler.py"), out_dir), accuracy, lines


def ask_digits(out_dir, bodies):
    manifest = {"model": {"modelFile": "model.py", "serializedFile": "digits.pth"}}
    results = run_handler("digits_handler.py", bodies, model_dir=out_dir, manifest=manifest)
    return [result.json() for result in results]


def test_the_digits_are_learnt_and_served_as_well_as_reported(digits):
    out_dir, accuracy, lines = digits
    assert accuracy >= 0.98
    assert len(lines) == 31
    labels = json.loads((out_dir / "held_out" / "labels.json").read_text())
    assert len(labels) == 360
    images = [(out_dir / "held_out" / name).read_bytes() for name in labels]
    answers = ask_digits(out_dir, images)
    right = [a["digit"] == label for a, label in zip(answers, labels.values(), strict=True)]
    assert sum(right) / len(right) == pytest.approx(accuracy)


def test_a_digit_may_come_as_numbers_or_as_a_larger_image(digits):
    out_dir, _, _ = digits
    name, _label = next(
        iter(json.loads((out_dir / "held_out" / "labels.json").read_text()).items())
    )
    small = Image.open(out_dir / "held_out" / name)
    buffer = io.BytesIO()
    small.resize((80, 80), Image.Resampling.NEAREST).convert("RGB").save(buffer, "PNG")
    flat = [round(value * 16 / 255) for value in small.tobytes()]
    nested = [flat[start : start + 8] for start in range(0, 64, 8)]
    answers = ask_digits(out_dir, [buffer.getvalue(), flat, nested, {"data": flat}])
    assert len({answer["digit"] for answer in answers}) == 1
    assert answers[1] == answers[2] == answers[3]
    assert list(answers[0]["probabilities"]) == [str(digit) for digit in range(10)]
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"no image", "not an image"),
        ([1, 2], r"shape \(2,\)"),
        ([17] * 64, "from 0 to 16"),
        ([float("nan")] * 64, "from 0 to 16"),
        (["a"] * 64, "not a list of numbers"),
        ("text", "Send an image file"),
        ({}, "Send an image file"),
    ],
)
def test_what_is_no_digit_is_refused_with_a_remedy(body, says, digits):
    with pytest.raises(PredictionException, match=says) as caught:
        ask_digits(digits[0], [body])
    assert caught.value.error_code == 400


# --- the custom handler ---------------------------------------------------------------------------


def test_a_handler_written_for_torchserve_runs_unchanged(tmp_path):
    load(EXAMPLES / "custom_image_handler" / "make_weights.py").make_weights(tmp_path)
    packed(
        "custom_image_handler", ("model.py", "custom_handler.py", "index_to_name.json"), tmp_path
    )
    manifest = {"model": {"serializedFile": "tiny.pth"}}
    sample = (tmp_path / "sample.png").read_bytes()
    one, two = run_handler(
        "custom_handler.py", [sample, {"data": sample}], model_dir=tmp_path, manifest=manifest
    )
    assert one == two
    assert one.headers == {"content-type": "application/json"}
    answer = one.json()
    assert answer["class"] in {"circle", "square", "triangle"}
    assert 1 / 3 <= answer["probability"] <= 1
    with pytest.raises(PredictionException, match="not an image"):
        run_handler("custom_handler.py", [b"junk"], model_dir=tmp_path, manifest=manifest)


# --- iris -----------------------------------------------------------------------------------------


def test_the_iris_model_is_served_by_the_built_in_handler(tmp_path):
    assert load(EXAMPLES / "sklearn_iris" / "train.py").train(tmp_path) >= 0.9
    sample = json.loads((tmp_path / "sample.json").read_text())
    [result] = run_handler(
        "sklearn",
        [{"body": sample}],
        model_dir=tmp_path,
        manifest={"model": {"serializedFile": "iris.joblib"}},
        model_yaml_config={"handler": {"probabilities": True}},
    )
    answer = result.json()
    assert set(answer["predictions"]) <= {"setosa", "versicolor", "virginica"}
    for name, probabilities in zip(answer["predictions"], answer["probabilities"], strict=True):
        assert max(probabilities, key=probabilities.get) == name
