"""From a text to the tokens a classifier was trained on. Pure.

Each step is a rule that training used as well; a model sees other numbers where one differs.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Final

CLEANUP_REGEX: Final = re.compile("<.*?>|&(?:[a-z0-9]+|#[0-9]{1,6}|#x[0-9a-f]{1,6});")
"""Tags and entities of HTML."""

_WITHOUT_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)
_SPACED: Final = str.maketrans(
    {'"': "", ";": " ", ":": " "} | {sign: f" {sign} " for sign in "'.,()!?"}
)


def remove_html_tags(text: str) -> str:
    """The text without tags and entities."""
    return CLEANUP_REGEX.sub("", text)


def remove_accents(text: str) -> str:
    """The text in ASCII: accents go, and so does whatever has no ASCII letter beneath."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")


def remove_punctuation(text: str) -> str:
    """The text without ASCII punctuation."""
    return text.translate(_WITHOUT_PUNCTUATION)


def basic_english(line: str) -> list[str]:
    """The lower-case tokens of an English text; signs that end or part sentences are tokens."""
    return line.lower().replace("<br />", " ").translate(_SPACED).split()


def ngrams_iterator(token_list: Sequence[str], ngrams: int) -> Iterator[str]:
    """The tokens, then each run of two of them joined by a space, and so on up to `ngrams`."""
    yield from token_list
    for length in range(2, ngrams + 1):
        for start in range(len(token_list) - length + 1):
            yield " ".join(token_list[start : start + length])


def get_tokenizer(tokenizer: str | None, language: str = "en") -> Callable[[str], list[str]]:
    """The function that cuts a text into tokens.

    Args:
        tokenizer: `basic_english`, or None to cut at white space only.
        language: `en`.

    Raises:
        ValueError: there is no such tokenizer for this language.
    """
    if tokenizer is None:
        return str.split
    if tokenizer != "basic_english":
        raise ValueError(f"There is no tokenizer {tokenizer!r}; there are basic_english and None.")
    if language != "en":
        raise ValueError(f"The tokenizer basic_english is for English (en), not for {language}.")
    return basic_english
