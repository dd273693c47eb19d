"""Which layers of the sandbox this machine has. Reads the machine, changes nothing."""

from __future__ import annotations

import functools

from marserve.errors import ConfigInvalid
from marserve.workers import linux, sandbox
from marserve.workers.confinement import STRICT
from marserve.workers.messages import Confinement


@functools.cache
def landlock_abi() -> int:
    """The version of Landlock that the kernel offers; 0: none."""
    return linux.landlock_abi()


@functools.cache
def has_seccomp() -> bool:
    """Whether system calls can be filtered."""
    return linux.has_seccomp()


def missing_for_strict(*, needs_network_rule: bool = True) -> list[str]:
    """What `sandbox=strict` needs and this machine lacks."""
    return sandbox.missing(landlock_abi(), has_seccomp(), needs_network_rule)


def require(mode: str) -> None:
    """Be sure that workers can be shut in as the configuration asks.

    Raises:
        ConfigInvalid: strictly, which this machine cannot do.
    """
    lacking = missing_for_strict() if mode == STRICT else []
    if lacking:
        raise ConfigInvalid(
            f"sandbox=strict needs {' and '.join(lacking)}: see `marserve doctor`, or set "
            "sandbox=default."
        )


def missing_for(wish: Confinement) -> list[str]:
    """What these workers need and this machine lacks; only `strict` needs anything."""
    if wish.mode != STRICT:
        return []
    return missing_for_strict(needs_network_rule=not wish.has_network)
