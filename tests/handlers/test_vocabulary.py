from collections import OrderedDict

import pytest
import torch

from marserve_handlers.errors import HandlerLoadFailed, PredictionException
from marserve_handlers.vocabulary import Vocabulary, read_vocabulary


class TorchtextVocab:
    """Stands for an object of a library: its pickle names a class."""


@pytest.mark.parametrize(
    ("saved", "numbers"),
    [
        ({"<unk>": 0, "a": 1}, [1, 0]),
        (OrderedDict([("a", 5), ("<unk>", 2)]), [5, 2]),
        (["<unk>", "a"], [1, 0]),
        (("a", "<unk>"), [0, 1]),
        ({"stoi": {"a": 3}, "default_index": 9}, [3, 9]),
        ({"itos": ["a", "b"], "unk_index": 1}, [0, 1]),
        ({"stoi": {"<unk>": 4, "a": 3}, "default_index": None}, [3, 4]),
    ],
)
def test_each_form_of_a_vocabulary_gives_numbers(saved, numbers, tmp_path):
    torch.save(saved, tmp_path / "v.pt")
    assert read_vocabulary(tmp_path / "v.pt")(["a", "zzz"]) == numbers


def test_a_vocabulary_answers_like_the_one_it_replaces():
    vocabulary = Vocabulary({"b": 1, "a": 0})
    assert (len(vocabulary), "a" in vocabulary, "c" in vocabulary) == (2, True, False)
    assert (vocabulary.get_stoi(), vocabulary.get_itos()) == ({"b": 1, "a": 0}, ["a", "b"])


def test_an_unknown_word_without_a_number_is_said():
    with pytest.raises(
        PredictionException, match=r"neither 'c' nor a number for unknown"
    ) as caught:
        Vocabulary({"a": 0})["c"]
    assert caught.value.error_code == 400


def test_a_vocabulary_that_would_run_code_is_refused_with_the_remedy(tmp_path):
    torch.save(TorchtextVocab(), tmp_path / "v.pt")
    with pytest.raises(HandlerLoadFailed, match=r"torch\.save\(\{'stoi': v\.get_stoi\(\)"):
        read_vocabulary(tmp_path / "v.pt")


@pytest.mark.parametrize(
    "saved", [torch.zeros(1), {"a": "b"}, {1: 2}, [1, 2], {"stoi": [1]}, "text"]
)
def test_what_is_no_vocabulary_is_refused(saved, tmp_path):
    torch.save(saved, tmp_path / "v.pt")
    with pytest.raises(HandlerLoadFailed, match="neither a map of token to number nor a list"):
        read_vocabulary(tmp_path / "v.pt")


def test_a_missing_vocabulary_is_said(tmp_path):
    with pytest.raises(HandlerLoadFailed, match=r"v\.pt is missing"):
        read_vocabulary(tmp_path / "v.pt")


def test_a_broken_file_is_refused(tmp_path):
    (tmp_path / "v.pt").write_bytes(b"junk")
    with pytest.raises(HandlerLoadFailed, match=r"v\.pt"):
        read_vocabulary(tmp_path / "v.pt")
