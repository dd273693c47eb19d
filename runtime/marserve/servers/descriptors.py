"""How many files and sockets the process may have open, and how many of them are for clients."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

_ENOUGH: Final = 131_072
"""More is not asked for: programs that handlers start may walk through all of them."""
_RESERVED: Final = 512
"""For workers, archives, logs and the control ports."""


def raise_limit() -> int:
    """Ask for as many descriptors as the system lets us have. Returns how many there are now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # a container may forbid what its limit allows
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return wanted if soft == resource.RLIM_INFINITY else soft


def for_clients(descriptors: int) -> int:
    """How many connections of clients leave enough descriptors for everything else."""
    return max(descriptors - _RESERVED, descriptors // 2)


def for_control(descriptors: int) -> int:
    """How many connections one control port may have."""
    return min(100, max(8, descriptors // 16))
