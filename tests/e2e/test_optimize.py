"""`optimize` in an archive's YAML file, through a real server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def server(shared_server):
    made = shared_server.root / "made"
    script = str(FIXTURES / "make_torch_models.py")
    subprocess.run([sys.executable, "-W", "ignore", script, str(made)], check=True)
    for name, document in (
        ("changed", "optimize: {dtype: bfloat16, tolerance: 1}\n"),
        ("automatic", "optimize: {auto: true, budget: 0.5}\n"),
        ("wrong", "optimize: {dtype: bf16}\n"),
    ):
        config = made / f"{name}.yaml"
        config.write_text(document)
        shared_server.pack(
            name,
            "image_classifier",
            model_file=str(made / "colour_model.py"),
            serialized_file=str(made / "colour.pth"),
            extra_files=str(made / "index_to_name.json"),
            config_file=str(config),
        )
    shared_server.start(load_models="changed.mar,automatic.mar")
    assert shared_server.problems == []
    return shared_server


@pytest.mark.parametrize("model", ["changed", "automatic"])
def test_an_optimised_model_answers_like_the_plain_one(server, model):
    reply = server.predict(model, (server.root / "made" / "green.jpg").read_bytes())
    assert reply.status == 200
    assert max(reply.json(), key=reply.json().get) == "green"


def test_what_was_chosen_is_described_and_logged(server):
    [described] = server.manage("GET", "/models/changed?customized=true").json()
    found = described["customizedMetadata"]
    assert found["optimization"]["chosen"] == "bfloat16"
    assert found["optimization"]["gain"] > 0
    log = (server.root / "logs" / "model_log.log").read_text()
    assert "optimize: bfloat16 is " in log


def test_the_second_worker_does_not_search_again(server):
    scaled = server.manage("PUT", "/models/automatic?min_worker=2&max_worker=2&synchronous=true")
    assert scaled.status == 200
    kept = [path.name for path in (server.root / "cache").rglob(".optimized.json")]
    assert len(kept) == 2


def test_a_wrong_value_fails_the_registration_by_name(server):
    reply = server.manage("POST", "/models?url=wrong.mar&initial_workers=1&synchronous=true")
    assert reply.status == 500
    assert "optimize.dtype is 'bf16', not float32 or bfloat16 or float16" in reply.json()["message"]
