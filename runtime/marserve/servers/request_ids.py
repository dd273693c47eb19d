"""Random request ids (UUID version 4) without a system call for each."""

from __future__ import annotations

import os

_IDS_PER_DRAW = 256
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class RequestIds:
    """A supply of UUID4 strings: the kernel's randomness, drawn for many ids at a time."""

    def __init__(self) -> None:
        self._drawn: list[str] = []

    def draw(self) -> str:
        """A new id, as `uuid.uuid4()` would print it."""
        if not self._drawn:
            digits = os.urandom(16 * _IDS_PER_DRAW).hex()
            self._drawn = [_uuid4(digits[i : i + 32]) for i in range(0, len(digits), 32)]
        return self._drawn.pop()


def _uuid4(d: str) -> str:
    return f"{d[:8]}-{d[8:12]}-4{d[13:16]}-{_VARIANTS[d[16]]}{d[17:20]}-{d[20:]}"
