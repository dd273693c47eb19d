"""Texts in, classes out: the handlers for models that were trained on bags of word n-grams.

`TextHandler` brings the vocabulary and the steps that clean a text; `TextClassifier` uses them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from marserve_handlers.contract import Context
from marserve_handlers.contractions import expand_contractions
from marserve_handlers.errors import PredictionException
from marserve_handlers.explanations import captum_attr, class_index, known_class
from marserve_handlers.labels import map_class_to_label
from marserve_handlers.row import row_value
from marserve_handlers.text_cleaning import (
    get_tokenizer,
    ngrams_iterator,
    remove_accents,
    remove_html_tags,
    remove_punctuation,
)
from marserve_handlers.timing import timed
from marserve_handlers.torch import BaseHandler
from marserve_handlers.vocabulary import Vocabulary, read_vocabulary

VOCABULARY_FILE: Final = "source_vocab.pt"
_BPE_SPACE: Final = "\u0120"
"""How byte-pair encoders mark that a space came before."""


class TextHandler(BaseHandler):
    """What handlers of texts share.

    Attributes:
        source_vocab: the number of each token.
        tokenizer: a callable from a text to its tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.source_vocab: Vocabulary | Any = None
        self.tokenizer: Callable[[str], list[str]] = get_tokenizer("basic_english")
        self.input_text: Any = None

    def initialize(self, context: Context) -> None:
        """Load the model and its vocabulary.

        Raises:
            HandlerLoadFailed: the vocabulary is missing or cannot be read.
        """
        super().initialize(context)
        self.initialized = False
        self.source_vocab = read_vocabulary(Path(self.get_source_vocab_path(context)))
        self.initialized = True

    def get_source_vocab_path(self, ctx: Context) -> str:
        """Where the vocabulary is: the manifest's `sourceVocab`, or else `source_vocab.pt`."""
        named = (self.manifest.get("model") or {}).get("sourceVocab") or VOCABULARY_FILE
        return str(Path(ctx.system_properties["model_dir"]) / Path(named).name)

    @functools.cached_property
    def lig(self) -> Any:
        """Captum's layer integrated gradients of the model's `embedding`, made when asked for.

        Raises:
            PredictionException: captum is not installed (501).
        """
        return captum_attr().LayerIntegratedGradients(self.model, self.model.embedding)

    def get_word_token(self, input_tokens: Sequence[str]) -> list[str]:
        """The tokens without the marks of a byte-pair encoder."""
        return [token.replace(_BPE_SPACE, "") for token in input_tokens]

    def summarize_attributions(self, attributions: torch.Tensor) -> torch.Tensor:
        """Attributions made comparable: softmax, then divided by the norm of their sums."""
        dim = 0 if attributions.dim() in (0, 1, 3) else 1
        positive = torch.softmax(attributions, dim=dim)
        summary: torch.Tensor = positive / torch.linalg.vector_norm(positive.sum(dim=-1))
        return summary

    def _expand_contractions(self, text: str) -> str:
        return expand_contractions(text)

    def _remove_accented_characters(self, text: str) -> str:
        return remove_accents(text)

    def _remove_html_tags(self, text: str) -> str:
        return remove_html_tags(text)

    def _remove_punctuation(self, text: str) -> str:
        return remove_punctuation(text)

    def _remove_puncutation(self, text: str) -> str:  # as handlers of long ago spell it
        return self._remove_punctuation(text)

    def _tokenize(self, text: str) -> list[str]:
        return self.tokenizer(text)


class _Texts(tuple[torch.Tensor, list[str]]):
    """The numbers of all texts in a row, and the words of the first.

    A pair to handlers that take it apart, as those written for one text at a time do. It also
    knows the words of each text, and where each begins.
    """

    words: tuple[list[str], ...]
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, pair: tuple[torch.Tensor, list[str]]) -> _Texts:
        """The same, of a pair that a subclass made for one text."""
        if isinstance(pair, cls):
            return pair
        texts = cls(pair)
        texts.words, texts.offsets = (list(pair[1]),), (0,)
        return texts

    def each(self) -> Iterator[tuple[torch.Tensor, list[str]]]:
        """Numbers and words of one text after the other."""
        ends = (*self.offsets[1:], len(self[0]))
        for words, start, end in zip(self.words, self.offsets, ends, strict=True):
            yield self[0][start:end], words


class TextClassifier(TextHandler):
    """The classes of each text, with their probabilities.

    The model is called as `model(numbers, offsets)`, as `torch.nn.EmbeddingBag` is.

    Attributes:
        ngrams: how many words a token spans at most.
    """

    ngrams: int = 2

    @timed
    def preprocess(self, data: Any) -> Any:
        """All texts as one row of numbers, and the words of the first.

        Raises:
            PredictionException: a row is no text, or has a word without a number (400).
        """
        tokens = [self._words(row_value(row)) for row in data]
        numbers: list[int] = []
        offsets = []
        for words in tokens:
            offsets.append(len(numbers))
            numbers += [self.source_vocab[token] for token in ngrams_iterator(words, self.ngrams)]
        prepared = torch.as_tensor(numbers, dtype=torch.int64, device=self.device)
        texts = _Texts((prepared, tokens[0] if tokens else []))
        texts.words, texts.offsets = tuple(tokens), tuple(offsets)
        return texts

    @timed
    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """What the model makes of the texts: scores of shape (texts, classes)."""
        texts = _Texts.of(data)
        return super().inference(texts[0], torch.as_tensor(texts.offsets, device=self.device))

    @timed
    def postprocess(self, data: Any) -> list[Any]:
        """Per text `{class name or index: probability}`, all classes in order."""
        return map_class_to_label(torch.softmax(data, dim=1).tolist(), self.mapping)

    def get_insights(self, text_preprocess: Any, _: Any, target: Any = 0) -> list[Any]:
        """Per text `{importances, words}`: how much its embedding speaks for class `target`.

        Raises:
            PredictionException: there is no such class (400), or captum is not installed (501).
        """
        index = class_index(target)
        with known_class(index):
            return [self._insight(*text, index) for text in _Texts.of(text_preprocess).each()]

    def _insight(self, numbers: torch.Tensor, words: list[str], target: Any) -> dict[str, Any]:
        attributions = self.lig.attribute(
            numbers,
            torch.zeros_like(numbers),
            additional_forward_args=torch.tensor([0], device=self.device),
            return_convergence_delta=False,
            target=target,
        )
        importances = self.summarize_attributions(attributions)
        return {"importances": importances.tolist(), "words": self.get_word_token(words)}

    def _words(self, text: Any) -> list[str]:
        if isinstance(text, bytes | bytearray):
            try:
                text = text.decode("utf-8")
            except UnicodeDecodeError as error:
                raise PredictionException(f"The input is no UTF-8 text: {error}.", 400) from error
        if not isinstance(text, str):
            raise PredictionException(f"The input must be a text, not {type(text).__name__}.", 400)
        text = self._expand_contractions(self._remove_html_tags(text).lower())
        return self._tokenize(self._remove_punctuation(self._remove_accented_characters(text)))
