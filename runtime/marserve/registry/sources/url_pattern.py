"""The patterns that `allowed_urls` may consist of: a small part of regular expressions. Pure.

A pattern is unfolded into sequences of `One` and `Many`, which are compared with a text in time
proportional to their lengths, so no url can keep a comparison busy.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

ANYTHING: Final = frozenset(map(chr, range(0x21, 0x7F)))
_WORD: Final = frozenset(string.ascii_letters + string.digits + "_")
_CLASSES: Final = {
    "d": frozenset(string.digits),
    "D": ANYTHING - frozenset(string.digits),
    "w": _WORD,
    "W": ANYTHING - _WORD,
    "S": ANYTHING,
}
_MAX_SEQUENCES: Final = 256
_MAX_CHARACTERS: Final = 4096


@dataclass(frozen=True, slots=True)
class One:
    """Exactly one of these characters."""

    characters: frozenset[str]

    @property
    def literal(self) -> str | None:
        """The one character it stands for, unless there are several."""
        return next(iter(self.characters)) if len(self.characters) == 1 else None


@dataclass(frozen=True, slots=True)
class Many:
    """Any number of these characters, none included."""

    characters: frozenset[str]


Piece = One | Many
Sequence = tuple[Piece, ...]


def unfold(pattern: str) -> tuple[Sequence, ...]:
    """The sequences that `pattern` stands for: one for each way through its alternatives.

    Raises:
        ValueError: it uses what is not understood here; the message says what.
    """
    if len(pattern) > _MAX_CHARACTERS:
        raise ValueError(f"it is longer than {_MAX_CHARACTERS} characters")
    reader = _Reader(pattern)
    sequences = reader.alternatives()
    if not reader.at_end():
        raise ValueError("a closing parenthesis has no opening one")
    return tuple(dict.fromkeys(sequences))


def fits(sequence: Sequence, text: str) -> bool:
    """Whether the whole of `text` is what `sequence` describes."""
    states = _with_skips(sequence, {0})
    for character in text:
        after = set()
        for state in states:
            if state < len(sequence) and character in sequence[state].characters:
                after.add(state if isinstance(sequence[state], Many) else state + 1)
        states = _with_skips(sequence, after)
    return len(sequence) in states


def literal_text(sequence: Iterable[Piece]) -> str | None:
    """The one text that fits, if there is only one."""
    literals = [piece.literal if isinstance(piece, One) else None for piece in sequence]
    return None if None in literals else "".join(filter(None, literals))


def _with_skips(sequence: Sequence, states: set[int]) -> set[int]:
    closed = set(states)
    for state in states:
        while state < len(sequence) and isinstance(sequence[state], Many):
            state += 1
            closed.add(state)
    return closed


class _Reader:
    """Reads one pattern from left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def at_end(self) -> bool:
        return self._at >= len(self._pattern)

    def alternatives(self) -> list[Sequence]:
        """What stands between two parentheses, or between the ends of the pattern."""
        found = self._sequences()
        while self._take("|"):
            found += self._sequences()
        return _bounded(found)

    def _sequences(self) -> list[Sequence]:
        sequences: list[Sequence] = [()]
        while not self.at_end() and self._pattern[self._at] not in "|)":
            choices = self._atom()
            sequences = _bounded([a + b for a in sequences for b in choices])
        return sequences

    def _atom(self) -> list[Sequence]:
        """One thing and the quantifier behind it."""
        character = self._next()
        match character:
            case "^" | "$":
                return self._anchor(character)
            case "(":
                return self._optional(self._group())
            case "[":
                return self._repeated(self._class())
            case ".":
                if self._peek() in ("*", "+"):
                    return self._repeated(ANYTHING)
                # in a url a dot is meant as one: reading it as "any character" is how
                # https://good.host came to allow https://good-host
                return self._optional([(One(frozenset(".")),)])
            case "\\":
                return self._escape()
            case "*" | "+" | "?" | "{" | "}" | "]":
                raise ValueError(f"{character} stands where nothing can be repeated")
            case _:
                if character not in ANYTHING:
                    raise ValueError("it has blanks or characters beyond ASCII")
                return self._literal(character)

    def _anchor(self, character: str) -> list[Sequence]:
        is_at_an_end = self._at == 1 if character == "^" else self._peek() in ("", "|", ")")
        if not is_at_an_end and self._pattern[self._at - 2 : self._at - 1] not in ("(", "|"):
            raise ValueError(f"{character} stands in the middle")
        return [()]  # the whole url is compared in any case

    def _group(self) -> list[Sequence]:
        if self._take("?i)"):  # hosts are compared without regard to case anyway
            return [()]
        if self._peek() == "?" and not self._take("?:"):
            raise ValueError("of the groups that begin with (? only (?: is understood")
        found = self.alternatives()
        if not self._take(")"):
            raise ValueError("a parenthesis is not closed")
        return found

    def _literal(self, character: str) -> list[Sequence]:
        return self._optional([(One(frozenset(character)),)])

    def _optional(self, sequences: list[Sequence]) -> list[Sequence]:
        if self._take("?"):
            return _bounded([*sequences, ()])
        if self._peek() in ("*", "+", "{"):
            raise ValueError(f"{self._peek()} repeats something fixed: write .* for any text")
        return sequences

    def _repeated(self, characters: frozenset[str]) -> list[Sequence]:
        if self._take("*"):
            self._take("?")  # a lazy one finds other parts of a text, but the same whole ones
            return [(Many(characters),)]
        if self._take("+"):
            self._take("?")  # a lazy one finds other parts of a text, but the same whole ones
            return [(One(characters), Many(characters))]
        return self._optional([(One(characters),)])

    def _escape(self) -> list[Sequence]:
        if self.at_end():
            raise ValueError("a backslash ends it")
        character = self._next()
        if character in _CLASSES:
            return self._repeated(_CLASSES[character])
        if character.isalnum() or character not in ANYTHING:
            raise ValueError(f"\\{character} is not understood")
        return self._literal(character)

    def _class(self) -> frozenset[str]:
        """What stands in brackets."""
        is_negated = self._take("^")
        characters: set[str] = set()
        first = True
        while first or self._peek() != "]":
            first = False
            low = self._class_member()
            if isinstance(low, frozenset):
                characters |= low
            elif self._range_follows():
                self._next()
                high = self._class_member()
                if isinstance(high, frozenset) or high < low:
                    raise ValueError("a range in brackets runs backwards")
                characters |= set(map(chr, range(ord(low), ord(high) + 1)))
            else:
                characters.add(low)
        self._next()
        return frozenset((ANYTHING - characters) if is_negated else (characters & ANYTHING))

    def _range_follows(self) -> bool:
        return self._peek() == "-" and self._pattern[self._at + 1 : self._at + 2] not in ("", "]")

    def _class_member(self) -> str | frozenset[str]:
        if self.at_end():
            raise ValueError("a bracket is not closed")
        character = self._next()
        if character != "\\":
            return character
        if self.at_end():
            raise ValueError("a backslash ends it")
        character = self._next()
        return _CLASSES.get(character, character)

    def _next(self) -> str:
        self._at += 1
        return self._pattern[self._at - 1]

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self, text: str) -> bool:
        if not self._pattern.startswith(text, self._at):
            return False
        self._at += len(text)
        return True


def _bounded(sequences: list[Sequence]) -> list[Sequence]:
    if len(sequences) > _MAX_SEQUENCES:
        raise ValueError(f"it stands for more than {_MAX_SEQUENCES} alternatives")
    return sequences
