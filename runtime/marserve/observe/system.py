"""The machine's figures under TorchServe's names, read from psutil and NVIDIA's library.

A reading is kept for a moment, so that many scrapers cost no more than one, and so that the CPU
share is measured over a time that means something.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import psutil
from prometheus_client import Metric

from marserve.observe.exposition import of_spec
from marserve.observe.gpus import GpuReading, Gpus
from marserve.observe.metric_specs import SYSTEM_METRICS, MetricSpec

_MIB = 1024**2
_GIB = 1024**3

Row = tuple[tuple[str, ...], float]
"""Label values in the order of a spec's labels, and the figure."""


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
    gpus: tuple[GpuReading, ...] = ()


_FIELDS = {
    "CPUUtilization": "cpu_percent",
    "MemoryUsed": "memory_used_mb",
    "MemoryAvailable": "memory_available_mb",
    "MemoryUtilization": "memory_percent",
    "DiskUsage": "disk_used_gb",
    "DiskAvailable": "disk_available_gb",
    "DiskUtilization": "disk_percent",
}
_GPU_FIELDS = {
    "GPUMemoryUtilization": "memory_percent",
    "GPUMemoryUsed": "memory_used_mb",
    "GPUUtilization": "percent",
}


class SystemCollector:
    """The machine as families of the library, and as rows for the metrics log.

    Args:
        hostname: the last label value of each figure.
        specs: the metrics to show; others than those of the machine are passed over.
        disk: where the disk is measured.
        max_age_s: how long a reading is good for.
        clock: seconds, monotonic.
        gpus: where the figures of GPUs come from.
    """

    def __init__(
        self,
        hostname: str,
        specs: Mapping[str, MetricSpec] = SYSTEM_METRICS,
        disk: Path = Path("/"),
        max_age_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        gpus: Gpus | None = None,
    ) -> None:
        self._hostname = hostname
        self._specs = [spec for name, spec in specs.items() if name in SYSTEM_METRICS]
        self._disk = disk
        self._max_age_s = max_age_s
        self._clock = clock
        self._gpus = Gpus() if gpus is None else gpus
        self._lock = Lock()
        """A scrape and the metrics log may ask at the same moment."""
        psutil.cpu_percent()  # the first call has nothing to compare with and answers 0
        self._taken_at = clock()
        self._last: Reading | None = None

    def collect(self) -> Iterator[Metric]:
        """One family per metric; those of GPUs are empty where there are none."""
        for spec, rows in self.rows():
            yield of_spec(spec, rows)

    def rows(self) -> Iterator[tuple[MetricSpec, list[Row]]]:
        """Every metric with its figures now."""
        reading = self._reading()
        for spec in self._specs:
            yield spec, self._rows_of(spec.name, reading)

    def _rows_of(self, name: str, reading: Reading) -> list[Row]:
        if name in _FIELDS:
            return [(("Host", self._hostname), getattr(reading, _FIELDS[name]))]
        figures = ((gpu.device, getattr(gpu, _GPU_FIELDS[name])) for gpu in reading.gpus)
        return [
            (("Host", str(device), self._hostname), figure)
            for device, figure in figures
            if figure is not None
        ]

    def _reading(self) -> Reading:
        with self._lock:
            now = self._clock()
            if self._last is None or now - self._taken_at >= self._max_age_s:
                self._last, self._taken_at = read(self._disk, self._gpus), now
            return self._last


def read(disk: Path, gpus: Gpus) -> Reading:
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
        gpus=gpus.read(),
    )
