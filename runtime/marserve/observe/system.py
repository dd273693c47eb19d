"""The machine's figures under TorchServe's names, read from psutil when scraped.

A reading is kept for a moment, so that many scrapers cost no more than one, and so that the CPU
share is measured over a time that means something.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

_MIB = 1024**2
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Reading:
    """The machine at one moment; TorchServe's units (its megabytes are MiB)."""

    cpu_percent: float
    memory_used_mb: float
    memory_available_mb: float
    memory_percent: float
    disk_used_gb: float
    disk_available_gb: float
    disk_percent: float


_GAUGES: tuple[tuple[str, str, str], ...] = (
    ("CPUUtilization", "cpu_percent", "Share of all CPU time in use, in percent."),
    ("MemoryUsed", "memory_used_mb", "Host memory in use, in megabytes."),
    ("MemoryAvailable", "memory_available_mb", "Host memory still to be had, in megabytes."),
    ("MemoryUtilization", "memory_percent", "Share of host memory in use, in percent."),
    ("DiskUsage", "disk_used_gb", "Disk space in use, in gigabytes."),
    ("DiskAvailable", "disk_available_gb", "Disk space still to be had, in gigabytes."),
    ("DiskUtilization", "disk_percent", "Share of disk space in use, in percent."),
)

SYSTEM_METRICS: frozenset[str] = frozenset(name for name, _, _ in _GAUGES)


class SystemCollector:
    """A collector of host gauges with the labels `Level="Host"` and `Hostname`."""

    def __init__(
        self,
        hostname: str,
        disk: Path = Path("/"),
        max_age_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._labels = ("Host", hostname)
        self._disk = disk
        self._max_age_s = max_age_s
        self._clock = clock
        psutil.cpu_percent()  # the first call has nothing to compare with and answers 0
        self._taken_at = clock()
        self._last: Reading | None = None

    def collect(self) -> Iterator[Metric]:
        """One family per gauge."""
        reading = self._reading()
        for name, field, documentation in _GAUGES:
            family = GaugeMetricFamily(name, documentation, labels=("Level", "Hostname"))
            family.add_metric(self._labels, getattr(reading, field))
            yield family

    def _reading(self) -> Reading:
        now = self._clock()
        if self._last is None or now - self._taken_at >= self._max_age_s:
            self._last, self._taken_at = read(self._disk), now
        return self._last


def read(disk: Path) -> Reading:
    """The machine now; `cpu_percent` covers the time since the last call in this process."""
    memory = psutil.virtual_memory()
    space = psutil.disk_usage(str(disk))
    return Reading(
        cpu_percent=psutil.cpu_percent(),
        memory_used_mb=memory.used / _MIB,
        memory_available_mb=memory.available / _MIB,
        memory_percent=memory.percent,
        disk_used_gb=space.used / _GIB,
        disk_available_gb=space.free / _GIB,
        disk_percent=space.percent,
    )
