"""How much freed memory the C library keeps for the next large body, instead of returning it.

Left to itself it maps each block of 128 KiB and more anew and returns it when it is freed, or soon
after, so every page of every large body costs a fault: many times as long as filling it takes.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

_TRIM_THRESHOLD: Final = -1  # the numbers are those of glibc's malloc.h
_MMAP_THRESHOLD: Final = -3
_LARGEST_KEPT_BYTES: Final = 32 << 20
"""Larger blocks are rare, and returned as soon as they are freed."""
_MOST_KEPT_BYTES: Final = 64 << 20


def keep_freed_memory() -> None:
    """From now on keep up to 64 MiB of what this process frees. Does nothing without glibc."""
    mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, _MOST_KEPT_BYTES)
