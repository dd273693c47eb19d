"""`SHA256SUMS` in a store: which archive has which digest, in the format of `sha256sum`. Pure.

A list that cannot be understood in every line is refused: half a list would let through what the
lost half names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

PINS_NAME: Final = "SHA256SUMS"
MAX_PINS_BYTES: Final = 1 << 20

_COREUTILS: Final = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
_BSD: Final = re.compile(r"SHA256 \((.+)\) = ([0-9a-fA-F]{64})")


class PinsInvalid(Exception):
    """The list cannot be used; `str(error)` is half a sentence that names the line."""


def parse(content: bytes) -> Mapping[str, str]:
    """The digests, in lower-case hex, by the names of files. Empty lines and `#` say nothing.

    Raises:
        PinsInvalid: a line says something else, or two lines differ about one file.
    """
    if len(content) > MAX_PINS_BYTES:
        raise PinsInvalid(f"it is larger than {MAX_PINS_BYTES} bytes")
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError as error:
        raise PinsInvalid("it is not UTF-8") from error
    pins: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        line = line.removesuffix("\r")
        if not line.strip() or line.startswith("#"):
            continue
        name, digest = _row(line, number)
        if pins.setdefault(name, digest) != digest:
            raise PinsInvalid(f"line {number} says something else of {name!r} than one before")
    return pins


def _row(line: str, number: int) -> tuple[str, str]:
    if match := _COREUTILS.fullmatch(line):
        digest, name = match[1], match[2]
    elif match := _BSD.fullmatch(line):
        name, digest = match[1], match[2]
    else:
        raise PinsInvalid(f"line {number} is not a digest and a name")
    return name.removeprefix("./"), digest.lower()
