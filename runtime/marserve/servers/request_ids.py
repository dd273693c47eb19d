"""Random request ids (UUID version 4) without a system call for each."""

from __future__ import annotations

import os

_IDS_PER_DRAW = 256
_VARIANT = "89ab"


class RequestIds:
    """A supply of UUID4 strings: the kernel's randomness, drawn for many ids at a time."""

    def __init__(self) -> None:
        self._digits = ""
        self._next = 0

    def draw(self) -> str:
        """A new id, as `uuid.uuid4()` would print it."""
        start = self._next
        if start == len(self._digits):
            self._digits = os.urandom(16 * _IDS_PER_DRAW).hex()
            start = 0
        self._next = start + 32
        d = self._digits[start : start + 32]
        variant = _VARIANT[int(d[16], 16) & 3]
        return f"{d[:8]}-{d[8:12]}-4{d[13:16]}-{variant}{d[17:20]}-{d[20:]}"
