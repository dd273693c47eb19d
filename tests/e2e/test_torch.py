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
    for name in ("make_torch_models.py", "make_other_models.py"):
        script = str(FIXTURES / name)
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
    for model, handler, extra in (
        ("segmenter", "image_segmenter", None),
        ("detector", "object_detector", None),
        ("sentiment", "text_classifier", str(made / "source_vocab.pt")),
    ):
        shared_server.pack(
            model,
            handler,
            model_file=str(made / f"{model}_model.py"),
            serialized_file=str(made / f"{model}.pth"),
            **({"extra_files": extra} if extra else {}),
        )
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


@pytest.fixture(scope="module")
def loaded(server):
    """Load an archive of the store the first time that a test asks for it."""
    known = set()

    def load(name):
        if name not in known:
            reply = server.manage("POST", f"/models?url={name}.mar&initial_workers=1&batch_size=4")
            assert reply.status == 200, reply
            known.add(name)
        return name

    return load


def test_the_segmenter_says_the_class_of_every_pixel(server, loaded):
    reply = server.predict(loaded("segmenter"), (server.root / "made" / "red.jpg").read_bytes())

    assert reply.status == 200
    pixels = reply.json()
    assert (len(pixels), len(pixels[0]), len(pixels[0][0])) == (224, 224, 2)
    assert {pixel[0] for row in pixels for pixel in row} <= {0.0, 1.0, 2.0}
    assert all(1 / 3 <= pixel[1] <= 1 for row in pixels for pixel in row)


def test_the_detector_says_what_is_where(server, loaded):
    reply = server.predict(loaded("detector"), (server.root / "made" / "blue.jpg").read_bytes())

    assert reply.status == 200
    objects = reply.json()
    assert 1 <= len(objects) <= 4
    for found in objects:
        assert list(found) == ["2", "score"]
        x1, y1, x2, y2 = found["2"]
        assert 0 <= x1 <= x2 <= 300
        assert 0 <= y1 <= y2 <= 260
        assert 0.5 <= found["score"] <= 1


def test_the_texts_of_a_batch_are_classified_each_for_its_sender(server, loaded, crowd):
    bodies = [b"good", "bad <b>b\u00e4d</b>".encode(), b"It isn't good", b"\xff"]
    name = loaded("sentiment")

    replies = crowd(lambda i: server.predict(name, bodies[i]), 4).join()

    assert [reply.status for reply in replies] == [200, 200, 200, 400]
    likeliest = [max(reply.json(), key=reply.json().get) for reply in replies[:3]]
    assert likeliest == ["1", "0", "0"]


def test_an_explanation_comes_from_captum(server, loaded):
    text = server.call("POST", "inference", f"/explanations/{loaded('sentiment')}", b"not good")
    image = (server.root / "made" / "red.jpg").read_bytes()
    pixels = server.call("POST", "inference", "/explanations/eager", image)

    assert (text.status, text.json()["words"]) == (200, ["not", "good"])
    assert (pixels.status, len(pixels.json())) == (200, 3)


def test_workers_of_a_version_map_the_same_file_of_weights(server):
    assert server.manage("PUT", "/models/eager?min_worker=2&synchronous=true").status == 200
    pids = server.pids("eager")
    assert len(pids) >= 2
    mapped = [_mapped(pid, "colour.pth") for pid in pids]
    assert all(len(one) == 1 for one in mapped)
    assert len(set().union(*mapped)) == 1


def _mapped(pid: int, name: str) -> set[tuple[str, str]]:
    """Device and inode of the files called `name` that a process has mapped privately."""
    found = set()
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].endswith(f"/{name}"):
            assert fields[1].endswith("p")
            found.add((fields[3], fields[4]))
    return found
