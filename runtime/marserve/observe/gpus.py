"""The GPUs' figures, read through NVIDIA's management library when it is there.

`nvidia-ml-py` (the extra `gpu`; imported as `pynvml`) is optional, and so is every single figure:
a device that does not tell one, such as a MIG slice its utilisation, goes without it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One device at one moment; None: it does not tell."""

    device: int
    percent: float | None
    """Share of the last sampling period in which a kernel ran."""
    memory_percent: float | None
    memory_used_mb: float | None


class Gpus:
    """The devices of this machine; none when library or driver is missing."""

    def __init__(self) -> None:
        self._nvml = _started()

    def read(self) -> tuple[GpuReading, ...]:
        """Every device now."""
        if self._nvml is None:
            return ()
        count = self._ask("nvmlDeviceGetCount") or 0
        readings = [self._device(index) for index in range(count)]
        return tuple(reading for reading in readings if reading is not None)

    def _device(self, index: int) -> GpuReading | None:
        device = self._ask("nvmlDeviceGetHandleByIndex", index)
        if device is None:
            return None
        busy = self._ask("nvmlDeviceGetUtilizationRates", device)
        memory = self._ask("nvmlDeviceGetMemoryInfo", device)
        return GpuReading(
            device=index,
            percent=float(busy.gpu) if busy else None,
            memory_percent=100 * memory.used / memory.total if memory and memory.total else None,
            memory_used_mb=memory.used / _MIB if memory else None,
        )

    def _ask(self, function: str, *arguments: Any) -> Any:
        """What the library answers; None: this device does not support the question."""
        assert self._nvml is not None
        try:
            return getattr(self._nvml, function)(*arguments)
        except self._nvml.NVMLError:
            return None


def _started() -> Any:
    """The library, ready to be asked, or None."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:  # there is no driver
        return None
    return nvml
