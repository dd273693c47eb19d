"""Random inputs for a fuzz target, made of its seeds: the same ones for the same number.

Not clever: where atheris is installed, `benchmarks/reliability/fuzz.py` lets coverage guide it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

MAX_BYTES = 4096
_TELLING = (
    b"\x00", b"\xff", b"\x7f", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b";", b",",
    b"0", b"1", b"-1", b"9" * 20, b"f" * 17, b"\x80", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00",
    b"{", b"[" * 64, b'"', b"NaN", b"1e999", b"..", b"/", b"%00", b"\xed\xa0\x80", b"--",
)  # fmt: skip
"""Bytes that formats give a meaning to, or end at."""


def inputs(seeds: Sequence[bytes], count: int, number: int = 0) -> Iterator[bytes]:
    """The seeds as they are, then `count` mutations of them."""
    yield from seeds
    dice = random.Random(number)
    for _ in range(count):
        data = bytearray(dice.choice(seeds) if seeds else b"")
        for _ in range(dice.choice((1, 1, 2, 4, 8))):
            _mutate(data, dice, seeds)
        yield bytes(data[:MAX_BYTES])


def _mutate(data: bytearray, dice: random.Random, seeds: Sequence[bytes]) -> None:
    at = dice.randrange(len(data) + 1)
    match dice.randrange(7):
        case 0:
            data[at : at + 1] = bytes((dice.randrange(256),))
        case 1 if data:
            data[at % len(data)] ^= 1 << dice.randrange(8)
        case 2:
            del data[at : at + dice.choice((1, 2, 8, 64))]
        case 3:
            data[at:at] = dice.choice(_TELLING)
        case 4:
            data[at : at + dice.randrange(4)] = dice.choice(_TELLING)
        case 5:
            piece = data[at : at + dice.choice((1, 4, 32))]
            data[at:at] = piece * dice.choice((1, 2, 16))
        case _:
            other = dice.choice(seeds) if seeds else b""
            start = dice.randrange(len(other) + 1)
            data[at:] = other[start:]
