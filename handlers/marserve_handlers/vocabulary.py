"""Tokens to numbers: what `source_vocab.pt` of a text classifier holds."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from marserve_handlers.errors import HandlerLoadFailed, PredictionException
from marserve_handlers.weights import UnreadableError, read_plain

UNKNOWN: Final = "<unk>"


class Vocabulary:
    """The number of each token.

    Args:
        numbers: token to number.
        default: the number of every other token; None where there is none, not even `<unk>`.
    """

    def __init__(self, numbers: Mapping[str, int], default: int | None = None) -> None:
        self._numbers = dict(numbers)
        self._default = self._numbers.get(UNKNOWN) if default is None else default

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, token: object) -> bool:
        return token in self._numbers

    def __getitem__(self, token: str) -> int:
        number = self._numbers.get(token, self._default)
        if number is None:
            raise PredictionException(
                f"The model's vocabulary has neither {token!r} nor a number for unknown words "
                f"({UNKNOWN}).",
                400,
            )
        return number

    def __call__(self, tokens: Sequence[str]) -> list[int]:
        """The numbers of these tokens."""
        return [self[token] for token in tokens]

    def get_stoi(self) -> dict[str, int]:
        """Token to number."""
        return dict(self._numbers)

    def get_itos(self) -> list[str]:
        """The tokens by their numbers, in order."""
        return sorted(self._numbers, key=self._numbers.__getitem__)


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary that `torch.save` wrote: a map of token to number, or a list of tokens.

    `{"stoi": {token: number}, "default_index": number}` and `{"itos": [token, …]}` also say the
    number of unknown words; otherwise it is that of `<unk>`.

    Raises:
        HandlerLoadFailed: the file is missing, would run code, or holds something else.
    """
    if not path.is_file():
        raise HandlerLoadFailed(
            f"the vocabulary {path.name} is missing in the archive; write it with "
            f"torch.save(token_to_number, {path.name!r}) and pack it with --extra-files"
        )
    try:
        found = read_plain(path)
    except UnreadableError as error:
        raise HandlerLoadFailed(f"the vocabulary {path.name} cannot be read: {error}") from error
    except pickle.UnpicklingError as error:
        raise HandlerLoadFailed(
            f"the vocabulary {path.name} holds an object (torchtext's, most likely), and loading "
            "it would run code from the file. Where torchtext is installed, write it anew: "
            "v = torch.load(path, weights_only=False); torch.save({'stoi': v.get_stoi(), "
            f"'default_index': v.get_default_index()}}, {path.name!r})"
        ) from error
    vocabulary = _vocabulary(found)
    if vocabulary is None:
        raise HandlerLoadFailed(
            f"the vocabulary {path.name} holds a {type(found).__name__}, but neither a map of "
            "token to number nor a list of tokens"
        )
    return vocabulary


def _vocabulary(found: Any, default: int | None = None) -> Vocabulary | None:
    if isinstance(found, list | tuple):
        if not all(isinstance(token, str) for token in found):
            return None
        return Vocabulary({token: number for number, token in enumerate(found)}, default)
    if not isinstance(found, Mapping):
        return None
    for key in ("stoi", "itos"):
        if isinstance(found.get(key), Mapping | list | tuple):
            index = found.get("default_index", found.get("unk_index"))
            return _vocabulary(found[key], index if isinstance(index, int) else None)
    if all(isinstance(token, str) and isinstance(n, int) for token, n in found.items()):
        return Vocabulary(found, default)
    return None
