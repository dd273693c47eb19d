"""A part of a registry, picked by the names of families or of samples.

The library's own restriction asks a map that is filled at registration, which cannot know the
metrics that handlers invent later.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.registry import Collector

from marserve.observe.exposition import selected


class Selection(Collector):
    """The families, or single samples, that bear one of `names`."""

    def __init__(self, registry: Collector, names: frozenset[str]) -> None:
        self._registry = registry
        self._names = names

    def collect(self) -> Iterable[Metric]:
        """A family that is named whole; of others the samples that are named, if any."""
        for family in self._registry.collect():
            if family.name in self._names:
                yield family
                continue
            samples = [sample for sample in family.samples if sample.name in self._names]
            if samples:
                yield selected(family, samples)
