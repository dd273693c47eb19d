"""Gives back what a framework keeps of a device's memory for later. Runs in a worker."""

from __future__ import annotations

import sys


def release_cached_memory() -> None:
    """After a batch that was too large: what its parts need may be in pieces of its size."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
