"""Which GPU each new worker gets. Pure: how many there are is handed in.

Without wishes, all models share one round over the devices, so that workers spread evenly. A model
that lists `deviceIds` goes round its own list; a list with a device that does not exist is ignored,
as TorchServe does. `deviceType: cpu`, and a machine without GPUs, give none. A worker of a parallel
model gets `parallelLevel` devices that no other worker of its version has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection

from marserve.model_version import Settings

Group = tuple[int, ...]
"""The devices of one worker; none: it runs on the CPU."""


class Devices:
    """Owns the round over this machine's GPUs."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._rounds = itertools.count(1)
        """TorchServe begins with device 1 where there are several; dashboards know it so."""

    def chooser(self, settings: Settings) -> Callable[[Collection[Group]], Group]:
        """What gives the devices of each next worker of a version, given those of the others."""
        if self.count == 0 or settings.device_type == "cpu":
            return lambda in_use: ()
        if settings.parallel_type:
            groups = self._groups(settings)
            return lambda in_use: min(groups, key=list(in_use).count)
        ids = self._listed(settings)
        if ids is not None:
            own = itertools.cycle(ids)
            return lambda in_use: (next(own),)
        return lambda in_use: (next(self._rounds) % self.count,)

    def most_workers(self, settings: Settings) -> int | None:
        """For how many workers there are devices; None: for any number."""
        if self.count == 0 or settings.device_type == "cpu" or not settings.parallel_type:
            return None
        return len(self._groups(settings))

    def _listed(self, settings: Settings) -> tuple[int, ...] | None:
        ids = settings.device_ids
        return ids if ids and all(0 <= device < self.count for device in ids) else None

    def _groups(self, settings: Settings) -> list[Group]:
        ids = self._listed(settings) or tuple(range(self.count))
        level = max(1, settings.parallel_level)
        return [ids[at : at + level] for at in range(0, len(ids) - level + 1, level)]
