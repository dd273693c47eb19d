"""The syntax of Java .properties files: text to key, value and line, and back. Pure.

Knows nothing of what a key means. Differences from Java: a malformed escape names its line, and
`$$NAME$$` in a value stands for the environment variable NAME (`substitute`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from marserve.errors import ConfigInvalid

_BLANK = " \t\f"
_LINE_END = re.compile(r"\r\n|\r|\n")
_TRAILING_BACKSLASHES = re.compile(r"\\*$")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_CONTROL_BACK = {control: f"\\{letter}" for letter, control in _CONTROL.items()}
_VARIABLE = re.compile(r"\$\$([A-Za-z_][A-Za-z0-9_]*)\$\$")


class Property(NamedTuple):
    """One entry of a file; `line` counts from 1 and is where the entry begins."""

    key: str
    value: str
    line: int


def parse(text: str) -> list[Property]:
    """All entries in the order of the file, duplicates included.

    Raises:
        ConfigInvalid: a unicode escape without four hexadecimal digits, or half a surrogate pair.
    """
    return [_entry(logical, line) for logical, line in _logical_lines(text)]


def substitute(value: str, environ: Mapping[str, str]) -> str:
    """`value` with every `$$NAME$$` replaced by that environment variable, once.

    Raises:
        ConfigInvalid: a variable is not set; the message names it.
    """

    def lookup(match: re.Match[str]) -> str:
        name = match[1]
        if name not in environ:
            raise ConfigInvalid(f"the environment variable {name} is not set")
        return environ[name]

    return _VARIABLE.sub(lookup, value)


def dump(entries: Iterable[tuple[str, str]]) -> str:
    """The text that `parse` reads back as these keys and values."""
    return "".join(f"{_escape(key, key=True)}={_escape(value)}\n" for key, value in entries)


def _logical_lines(text: str) -> Iterator[tuple[str, int]]:
    """Lines without comments and blanks, continuations joined."""
    logical, began = "", 0
    for number, natural in enumerate(_LINE_END.split(text), start=1):
        content = natural.lstrip(_BLANK)
        if not logical:
            began = number
            if not content or content[0] in "#!":
                continue
        backslashes = _TRAILING_BACKSLASHES.search(content)
        continued = backslashes is not None and len(backslashes[0]) % 2 == 1
        logical += content[:-1] if continued else content
        if logical and not continued:
            yield logical, began
            logical = ""
    if logical:  # the file ends in the middle of a continuation
        yield logical, began


def _entry(logical: str, line: int) -> Property:
    end = _end_of_key(logical)
    rest = logical[end:].lstrip(_BLANK)
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(_BLANK)
    return Property(_unescape(logical[:end], line), _unescape(rest, line), line)


def _end_of_key(logical: str) -> int:
    escaped = False
    for position, character in enumerate(logical):
        if not escaped and (character in "=:" or character in _BLANK):
            return position
        escaped = character == "\\" and not escaped
    return len(logical)


def _unescape(text: str, line: int) -> str:
    def meaning(match: re.Match[str]) -> str:
        escape = match[1]
        if len(escape) == 5:
            return chr(int(escape[1:], 16))
        if escape == "u":
            raise ConfigInvalid(f"line {line}: \\u must be followed by four hexadecimal digits")
        return _CONTROL.get(escape, escape)

    plain = _ESCAPE.sub(meaning, text)
    try:  # Java writes a character beyond U+FFFF as two \u escapes
        return plain.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ConfigInvalid(f"line {line}: a \\u escape is half of a surrogate pair") from None


def _escaped(character: str) -> str:
    if character in _CONTROL_BACK:
        return _CONTROL_BACK[character]
    if character in "\\=:#!":
        return f"\\{character}"
    if " " <= character <= "~":
        return character
    units = character.encode("utf-16-be", "surrogatepass")  # Java reads these files as Latin-1
    return "".join(f"\\u{units[i : i + 2].hex().upper()}" for i in range(0, len(units), 2))


def _escape(text: str, *, key: bool = False) -> str:
    escaped = "".join(_escaped(character) for character in text)
    if key:
        return escaped.replace(" ", "\\ ")
    leading = len(escaped) - len(escaped.lstrip(" "))
    return "\\ " * leading + escaped[leading:]
