"""What is the next step from what is towards what is wanted? Pure, stateless, idempotent.

Versions are loaded before others are unloaded, so that a name is never left without the version
that serves it while its successor is still to come.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from marserve.refs import ModelRef
from marserve.registry.wanted import Wanted


@dataclass(frozen=True, slots=True)
class Load:
    """Open this version."""

    ref: ModelRef


@dataclass(frozen=True, slots=True)
class Unload:
    """Let this version finish what it has, and end it."""

    ref: ModelRef


def next_action(
    wanted: Wanted, opened: Collection[ModelRef], opening: Collection[ModelRef] = ()
) -> Load | Unload | None:
    """One step, or None when there is nothing to do.

    `opened`: versions that serve, or of which it is known that they cannot. `opening`: versions
    that somebody is opening at this moment; they are neither loaded twice nor taken away.
    """
    for ref in wanted.refs():
        if ref not in opened and ref not in opening:
            return Load(ref)
    for ref in sorted(opened):
        if ref not in wanted:
            return Unload(ref)
    return None
