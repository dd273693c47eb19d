"""The metrics that TorchServe has: what each is called, counts and is labelled by. Pure data.

What `metrics.yaml` may change about them is decided in `metrics_config.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

KINDS = ("counter", "gauge", "histogram")

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Where the buckets of TorchServe's histograms end, whatever the unit."""

_UNITS = {
    "ms": "Milliseconds",
    "s": "Seconds",
    "percent": "Percent",
    "count": "Count",
    "MB": "Megabytes",
    "kB": "Kilobytes",
    "GB": "Gigabytes",
    "B": "Bytes",
    "": "unit",
}


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric. `labels` are the names that its label values get, in this order."""

    name: str
    kind: str
    unit: str
    labels: tuple[str, ...]

    @property
    def help(self) -> str:
        """TorchServe's text, which people's tools may look at."""
        return f"Torchserve prometheus {self.kind} metric with unit: {self.unit}"


def long_unit(unit: str) -> str:
    """How TorchServe spells a unit that a handler gave; what it does not know it keeps."""
    return _UNITS.get(unit, unit)


def _specs(
    kind: str, labels: tuple[str, ...], names_by_unit: Mapping[str, tuple[str, ...]]
) -> dict[str, MetricSpec]:
    return {
        name: MetricSpec(name, kind, unit, labels)
        for unit, names in names_by_unit.items()
        for name in names
    }


_HOST = ("Level", "Hostname")
_GPU = ("Level", "DeviceId", "Hostname")
_REQUEST = ("model_name", "model_version", "hostname")

ANSWERS = ("Requests2XX", "Requests4XX", "Requests5XX")
LATENCIES = ("ts_inference_latency_microseconds", "ts_queue_latency_microseconds")
REQUESTS = "ts_inference_requests_total"
LEGACY = frozenset({REQUESTS, *LATENCIES})
"""What metrics_mode=legacy exports."""

GPU_METRICS: Mapping[str, MetricSpec] = MappingProxyType(
    _specs(
        "gauge",
        _GPU,
        {"Percent": ("GPUMemoryUtilization", "GPUUtilization"), "Megabytes": ("GPUMemoryUsed",)},
    )
)
SYSTEM_METRICS: Mapping[str, MetricSpec] = MappingProxyType(
    _specs(
        "gauge",
        _HOST,
        {
            "Percent": ("CPUUtilization", "MemoryUtilization", "DiskUtilization"),
            "Megabytes": ("MemoryUsed", "MemoryAvailable"),
            "Gigabytes": ("DiskUsage", "DiskAvailable"),
        },
    )
    | dict(GPU_METRICS)
)
SERVER_METRICS: Mapping[str, MetricSpec] = MappingProxyType(
    _specs("counter", _HOST, {"Count": ANSWERS})
    | _specs("counter", _REQUEST, {"Count": (REQUESTS,), "Microseconds": LATENCIES})
    | _specs("gauge", _HOST, {"Milliseconds": ("QueueTime", "WorkerThreadTime")})
    | _specs("gauge", ("WorkerName", *_HOST), {"Milliseconds": ("WorkerLoadTime",)})
    | dict(SYSTEM_METRICS)
)
"""All that TorchServe itself measures (its `ts_metrics`)."""

HANDLER_METRICS: Mapping[str, MetricSpec] = MappingProxyType(
    _specs("gauge", ("ModelName", "Level"), {"ms": ("HandlerTime", "PredictionTime")})
)
"""What TorchServe's own `metrics.yaml` lists as `model_metrics`."""

OTHER_KINDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {name: frozenset({"histogram"}) for name in ("QueueTime", "WorkerThreadTime")}
)
"""What else than its own kind a server metric may be listed as."""
