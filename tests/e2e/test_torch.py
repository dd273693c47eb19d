"""torch models behind the built-in handlers, eager and TorchScript, through a real server."""

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
    labels = str(made / "index_to_name.json")
    shared_server.pack(
        "eager",
        "image_classifier",
        model_file=str(made / "colour_model.py"),
        serialized_file=str(made / "colour.pth"),
        extra_files=labels,
    )
    shared_server.pack(
        "script", "image_classifier", serialized_file=str(made / "colour.pt"), extra_files=labels
    )
    shared_server.pack("bare", "base_handler", model_file=str(made / "colour_model.py"))
    shared_server.start(load_models="eager.mar,script.mar", batch_size=4)
    assert shared_server.problems == []
    return shared_server


@pytest.mark.parametrize("model", ["eager", "script"])
@pytest.mark.parametrize("colour", ["red", "green", "blue"])
def test_the_image_classifier_names_the_class(server, model, colour):
    image = (server.root / "made" / f"{colour}.jpg").read_bytes()

    reply = server.predict(model, image)

    assert reply.status == 200
    assert max(reply.json(), key=reply.json().get) == colour
    assert sum(reply.json().values()) == pytest.approx(1.0, abs=1e-3)


def test_a_broken_image_is_an_error_for_its_sender_alone(server, crowd):
    image = (server.root / "made" / "red.jpg").read_bytes()
    bodies = [image, b"no image", image, image]

    replies = crowd(lambda i: server.predict("eager", bodies[i]), 4).join()

    assert [reply.status for reply in replies] == [200, 400, 200, 200]
    assert "image" in replies[1].json()["message"]


def test_a_second_worker_is_forked_from_the_process_that_has_imported_torch(server):
    reply = server.manage("PUT", "/models/eager?min_worker=2&synchronous=true")

    assert reply.status == 200
    zygotes = {child.ppid() for child in server.children() if child.pid in server.pids("eager")}
    assert len(zygotes) == 1
    assert server.predict("eager", (server.root / "made" / "blue.jpg").read_bytes()).status == 200


def test_json_numbers_go_straight_into_the_base_handler(server):
    assert server.manage("POST", "/models?url=bare.mar&initial_workers=1").status == 200

    pixel = [[[1.0]], [[0.0]], [[0.0]]]
    reply = server.call(
        "POST",
        "inference",
        "/predictions/bare",
        str(pixel).encode(),
        {"Content-Type": "application/json"},
    )

    assert (reply.status, reply.json()) == (200, [0.0, 0.0, 0.0])
