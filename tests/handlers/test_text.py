import sys

import pytest
import torch

from marserve_handlers.errors import HandlerLoadFailed, PredictionException
from marserve_handlers.testing import run_handler
from marserve_handlers.text import TextClassifier

MODEL_FILE = """
import torch

class Sentiment(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.EmbeddingBag(8, 2, mode="sum")

    def forward(self, text, offsets):
        return self.embedding(text, offsets)
"""
NUMBERS = {"<unk>": 0, "bad": 1, "good": 2, "not good": 3, "not": 4}
WEIGHTS = [[0, 0], [2, 0], [0, 2], [4, -2], [0, 0], [0, 0], [0, 0], [0, 0]]
"""Class 0 is unhappy, class 1 happy."""


@pytest.fixture
def model_dir(tmp_path):
    (tmp_path / "model.py").write_text(MODEL_FILE)
    torch.save({"embedding.weight": torch.tensor(WEIGHTS, dtype=torch.float32)}, tmp_path / "w.pt")
    torch.save(NUMBERS, tmp_path / "source_vocab.pt")
    return tmp_path


def answers(model_dir, bodies, handler="text_classifier", **settings):
    manifest = {"model": {"modelFile": "model.py", "serializedFile": "w.pt"}}
    results = run_handler(handler, bodies, model_dir=model_dir, manifest=manifest, **settings)
    return [result.json() for result in results]


def softmax(*scores):
    values = torch.softmax(torch.tensor([float(score) for score in scores]), dim=0).tolist()
    return {str(index): value for index, value in enumerate(values)}


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("good", (0, 2)),
        (b"<b>B\xc3\xa4d</b>, bad!", (4, 0)),
        ("It isn't good.", (4, 0)),
        ("something else", (0, 0)),
        ("", (0, 0)),
    ],
)
def test_a_text_is_classified_by_its_words_and_pairs_of_words(text, scores, model_dir):
    [answer] = answers(model_dir, [text])
    assert list(answer) == ["0", "1"]
    assert answer == pytest.approx(softmax(*scores))


def test_the_texts_of_a_batch_do_not_mix(model_dir):
    got = answers(model_dir, ["good", {"data": b"bad"}, "", "not good"])
    for answer, scores in zip(got, [(0, 2), (2, 0), (0, 0), (4, 0)], strict=True):
        assert answer == pytest.approx(softmax(*scores))


def test_a_handler_that_prepares_one_text_on_its_own_still_works(model_dir):
    class Own(TextClassifier):
        def preprocess(self, data):
            return torch.tensor([self.source_vocab["bad"]]), ["bad"]

    assert answers(model_dir, ["anything"], Own) == [pytest.approx(softmax(2, 0))]


@pytest.mark.parametrize(
    ("body", "says"),
    [(b"\xff", "no UTF-8 text"), ({"body": {"a": 1}}, "not dict"), ({}, "neither a body")],
)
def test_what_is_no_text_is_the_clients_mistake(body, says, model_dir):
    with pytest.raises(PredictionException, match=says) as caught:
        answers(model_dir, [body])
    assert caught.value.error_code == 400


def test_the_manifest_may_name_the_vocabulary(model_dir):
    (model_dir / "source_vocab.pt").rename(model_dir / "own.pt")
    with pytest.raises(HandlerLoadFailed, match=r"source_vocab\.pt is missing"):
        answers(model_dir, ["good"])
    manifest = {"model": {"modelFile": "model.py", "sourceVocab": "../elsewhere/own.pt"}}
    run_handler("text_classifier", ["good"], model_dir=model_dir, manifest=manifest)


EXPLAIN = {"headers": {"explain": "True"}}


def test_an_explanation_names_the_words_and_weighs_the_embedding(model_dir):
    row = {"body": "not good", "target": 1}
    one, two = answers(model_dir, [row, "bad"], **EXPLAIN)
    assert (one["words"], two["words"]) == (["not", "good"], ["bad"])
    [weights] = one["importances"]
    # the scores for class 1 come from the second number of the embedding: 2 - 2 = 0
    assert weights == pytest.approx([0.5, 0.5])
    [weights] = answers(model_dir, ["bad"], **EXPLAIN)[0]["importances"]
    assert weights == pytest.approx(torch.softmax(torch.tensor([2.0, 0.0]), 0).tolist())


def test_a_class_that_the_model_does_not_have_is_the_clients_mistake(model_dir):
    with pytest.raises(PredictionException, match="has no class 7") as caught:
        answers(model_dir, [{"body": "good", "target": 7}], **EXPLAIN)
    assert caught.value.error_code == 400


def test_an_explanation_without_captum_names_the_package(model_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(PredictionException, match="captum") as caught:
        answers(model_dir, ["good"], **EXPLAIN)
    assert caught.value.error_code == 501
    assert len(answers(model_dir, ["good"])) == 1


def test_marks_of_byte_pair_encoders_go(model_dir):
    assert TextClassifier().get_word_token(["\u0120the", "cat"]) == ["the", "cat"]
