"""English contractions and what they stand for, put together by rule. Pure.

Text classifiers are trained on text in which exactly these were written out, so the table is part
of the contract: one more entry would change what a trained model sees.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_NEGATED: Final = (
    "are could did does do had has have is may might must need ought should was were would"
)
_NEGATED_HAVE: Final = "could had might must need ought should would"
_WILL: Final = "he how i it she they we what who you"
_WOULD: Final = "he i it she that there they we you"
_DID: Final = "how where"
_IS: Final = "he how it she that there what when where who why"
_ARE: Final = "they we what you"
_HAVE: Final = "could i might must should so they to we what when where who why will would you"
_IRREGULAR: Final = {
    "ain't": "is not",
    "can't": "cannot",
    "shan't": "shall not",
    "sha'n't": "shall not",
    "won't": "will not",
    "'cause": "because",
    "how'd'y": "how do you",
    "let's": "let us",
    "ma'am": "madam",
    "o'clock": "of the clock",
    "so's": "so as",
    "y'all": "you all",
}
_TAKES_HAVE: Final = ("can't", "shan't", "won't")


def _rules() -> Iterator[tuple[str, str]]:
    yield from _IRREGULAR.items()
    for short in _TAKES_HAVE:
        yield f"{short}'ve", f"{_IRREGULAR[short]} have"
    for verb in _NEGATED.split():
        yield f"{verb}n't", f"{verb} not"
    for verb in _NEGATED_HAVE.split():
        yield f"{verb}n't've", f"{verb} not have"
    for word in _WILL.split():
        yield f"{word}'ll", f"{word} will"
        if word != "how":
            yield f"{word}'ll've", f"{word} will have"
    for word in (*_WOULD.split(), "y'all"):
        full = _IRREGULAR.get(word, word)
        yield f"{word}'d", f"{full} would"
        yield f"{word}'d've", f"{full} would have"
    for word in _DID.split():
        yield f"{word}'d", f"{word} did"
    for word in _IS.split():
        yield f"{word}'s", f"{word} is"
    for word in (*_ARE.split(), "y'all"):
        yield f"{word}'re", f"{_IRREGULAR.get(word, word)} are"
    for word in (*_HAVE.split(), "y'all"):
        yield f"{word}'ve", f"{_IRREGULAR.get(word, word)} have"
    yield "i'm", "i am"


def _with_capital_i(rules: dict[str, str]) -> dict[str, str]:
    capital = {
        f"I{short[1:]}": f"I{full[1:]}" for short, full in rules.items() if short[:2] == "i'"
    }
    return rules | capital


CONTRACTION_MAP: Final[dict[str, str]] = _with_capital_i(dict(_rules()))
"""Contraction to the words it stands for; lower case, and those of "I" in both cases."""

_PATTERN: Final = re.compile(
    # shorter ones first: of "couldn't've" the models' training text had "could not've"
    "|".join(map(re.escape, sorted(CONTRACTION_MAP, key=len))),
    re.IGNORECASE,
)


def expand_contractions(text: str) -> str:
    """The text with its contractions written out and every other apostrophe removed.

    Whatever stands first in the contraction stays, in its case: "Don't" becomes "Do not", and
    "ain't" becomes "as not".
    """
    return _PATTERN.sub(_expanded, text).replace("'", "")


def _expanded(found: re.Match[str]) -> str:
    short = found[0]
    full = CONTRACTION_MAP.get(short) or CONTRACTION_MAP[short.lower()]
    return short[0] + full[1:]
