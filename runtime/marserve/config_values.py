"""The typed values that settings take, and how the text of a setting becomes one. Pure.

A `ValueType.read` gets the text and a list to which it may add notes (things that the operator
should know, though the value was taken). Text that cannot be taken raises ValueError with a
sentence that says what is expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Notes = list[str]

LARGEST_INT = 2**31 - 1

_NUMBER = re.compile(r"([+-]?[0-9]{1,30})(\s*#.*)?")
_BOOLEAN = re.compile(r"(true|false)(\s*#.*)?", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")
_LONGEST_MINUTES = 10**9


@dataclass(frozen=True, slots=True)
class ValueType:
    """What the text of a setting may be; `expected` completes "expected …"."""

    expected: str
    read: Callable[[str, Notes], Any]


# --- scalars ---


def whole_number(at_least: int, at_most: int = LARGEST_INT) -> ValueType:
    """A whole number in a range; a comment behind it is dropped with a note."""
    expected = f"a whole number, at least {at_least}"

    def read(text: str, notes: Notes) -> int:
        match = _NUMBER.fullmatch(text)
        if match is None or int(match[1]) < at_least:
            raise ValueError(f"expected {expected}")
        if int(match[1]) > at_most:
            raise ValueError(f"expected at most {at_most}")
        _note_comment(match, notes)
        return int(match[1])

    return ValueType(expected, read)


def optional_whole_number(at_least: int, at_most: int = LARGEST_INT) -> ValueType:
    """The same, or nothing."""
    number = whole_number(at_least, at_most)

    def read(text: str, notes: Notes) -> int | None:
        return number.read(text, notes) if text else None

    return ValueType(number.expected, read)


def _read_boolean(text: str, notes: Notes) -> bool:
    match = _BOOLEAN.fullmatch(text)
    if match is None:
        raise ValueError("expected true or false")
    _note_comment(match, notes)
    return match[1].lower() == "true"


def _note_comment(match: re.Match[str], notes: Notes) -> None:
    if match[2] is not None:
        notes.append(f"taken as {match[1]}; a comment needs a line of its own")


def _read_plain(text: str, _notes: Notes) -> str:
    return text


def _read_text(text: str, _notes: Notes) -> str | None:
    return text or None


def _read_path(text: str, _notes: Notes) -> Path:
    if not text or "\0" in text:
        raise ValueError("expected a path")
    return Path(text)


def _read_optional_path(text: str, notes: Notes) -> Path | None:
    return _read_path(text, notes) if text else None


def _read_words(text: str, _notes: Notes) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _read_pattern(text: str, _notes: Notes) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise ValueError(f"expected a regular expression ({error})") from error


def _read_optional_boolean(text: str, notes: Notes) -> bool | None:
    return _read_boolean(text, notes) if text else None


def _read_positive(text: str, _notes: Notes) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError("expected a number greater than 0") from None
    if not 0 < number < _LONGEST_MINUTES:  # also false for what is no number
        raise ValueError(f"expected a number greater than 0 and less than {_LONGEST_MINUTES}")
    return number


def _read_patterns(text: str, _notes: Notes) -> tuple[str, ...]:
    patterns = tuple(part.strip() for part in text.split(",") if part.strip())
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"expected a regular expression in place of {pattern} ({error})"
            ) from error
    return patterns


def _read_token(text: str, _notes: Notes) -> str:
    if not _HEADER_NAME.fullmatch(text):
        raise ValueError("expected the name of a header")
    return text


def _read_header_value(text: str, _notes: Notes) -> str | None:
    if any(not " " <= character <= "~" for character in text):
        raise ValueError("expected the value of a header, in ASCII and on one line")
    return text or None


def _read_hosts(text: str, _notes: Notes) -> tuple[str, ...]:
    names = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    for name in names:
        if name != "*" and not _HOST_NAME.fullmatch(name):
            raise ValueError(f"expected a host name without a port in place of {name}")
    return names


def _read_switched_off(text: str, notes: Notes) -> bool | None:
    switched_off = _read_optional_boolean(text, notes)
    return None if switched_off is None else not switched_off


def choice(*words: str) -> ValueType:
    """One of some words, in any case; the value is the word as it stands here."""
    by_lower = {word.lower(): word for word in words}
    expected = " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))

    def read(text: str, _notes: Notes) -> str:
        try:
            return by_lower[text.lower()]
        except KeyError:
            raise ValueError(f"expected {expected}") from None

    return ValueType(expected, read)


def _read_paths(text: str, _notes: Notes) -> tuple[Path, ...]:
    return tuple(_read_path(part.strip(), _notes) for part in text.split(",") if part.strip())


BOOLEAN = ValueType("true or false", _read_boolean)
TEXT = ValueType("any text", _read_text)
PLAIN = ValueType("any text", _read_plain)
"""Text that may be empty; never None."""
PATH = ValueType("the path of a directory", _read_path)
OPTIONAL_PATH = ValueType("the path of a directory", _read_optional_path)
PATHS = ValueType("paths, separated by commas", _read_paths)
WORDS = ValueType("words, separated by commas", _read_words)
PATTERN = ValueType("a regular expression", _read_pattern)
OPTIONAL_FILE = ValueType("the path of a file", _read_optional_path)
OPTIONAL_BOOLEAN = ValueType("true or false", _read_optional_boolean)
POSITIVE_NUMBER = ValueType("a number greater than 0", _read_positive)
PATTERNS = ValueType("regular expressions, separated by commas", _read_patterns)
HEADER_NAME = ValueType("the name of a header", _read_token)
HEADER_VALUE = ValueType("the value of a header", _read_header_value)
HOSTS = ValueType("host names, separated by commas", _read_hosts)
SWITCHED_OFF = ValueType("true or false", _read_switched_off)
"""A switch that is named for what it turns off: the value says whether it is on; None: not said."""
