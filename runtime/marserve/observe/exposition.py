"""Figures -> families of the library, under TorchServe's names and our own. Writes no text.

TorchServe calls `Requests2XX`, `ts_inference_latency_microseconds` and the like counters, but the
library prints a counter's name with `_total` at the end, and dashboards ask for the name without.
Those are therefore exposed as *untyped* (`unknown` in OpenMetrics): the sample's name is exact,
`rate()` works as before, and the type line claims nothing that the format forbids. Names that
end in `_total` anyway are proper counters.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import Metric
from prometheus_client.core import Sample

from marserve.observe.figures import (
    Histogram,
    HostFigures,
    Labels,
    RequestFigures,
    VersionFigures,
)
from marserve.observe.system import SYSTEM_METRICS

TIMES = ("HandlerTime", "PredictionTime")

_TORCHSERVE_NAMES = SYSTEM_METRICS | {
    *("Requests2XX", "Requests4XX", "Requests5XX"),
    *("QueueTime", "WorkerThreadTime", "WorkerLoadTime", *TIMES),
}
_OWN_PREFIXES = ("marserve_", "process_", "python_", "ts_inference_", "ts_queue_")


def is_reserved(name: str) -> bool:
    """Whether a handler may not use `name`, because the server does."""
    return name in _TORCHSERVE_NAMES or name.startswith(_OWN_PREFIXES)


def host_families(figures: HostFigures, hostname: str) -> Iterator[Metric]:
    """What is told of the server as a whole."""
    host = {"Level": "Host", "Hostname": hostname}
    for digit, counter in figures.answers.items():
        rows = [(host, counter.value)]
        yield _family(f"Requests{digit}XX", "unknown", f"HTTP answers, {digit}xx.", rows)
    yield _family(
        "QueueTime",
        "gauge",
        "Longest wait in the latest batch, in milliseconds.",
        [] if figures.queue_ms is None else [(host, figures.queue_ms)],
    )
    yield _family(
        "WorkerThreadTime",
        "gauge",
        "Time that the latest batch spent outside its handler, in milliseconds.",
        [] if figures.overhead_ms is None else [(host, figures.overhead_ms)],
    )
    yield _family(
        "WorkerLoadTime",
        "gauge",
        "Time that a worker took to load its model, in milliseconds.",
        [
            ({"WorkerName": f"W-{worker}-{ref.name}_{ref.version}", **host}, load_ms)
            for (ref, worker), load_ms in figures.load_ms.copy().items()
        ],
    )
    yield from _times(figures, hostname)
    yield _family(
        "marserve_requests_refused_total",
        "counter",
        "Requests refused before they queued, by reason.",
        [({"reason": reason}, one.value) for reason, one in figures.refused.copy().items()],
    )
    release = {"version": _RELEASE}
    yield _family("marserve_build_info", "gauge", "The running release.", [(release, 1.0)])


def _times(figures: HostFigures, hostname: str) -> Iterator[Metric]:
    times_ms = figures.times_ms.copy()
    for name in TIMES:
        yield _family(
            name,
            "gauge",
            "Time of the latest batch in its handler, in milliseconds.",
            [
                ({"ModelName": model, "Level": "Model", "Hostname": hostname}, time_ms)
                for (which, model), time_ms in times_ms.items()
                if which == name
            ],
        )


def request_families(
    requests: list[RequestFigures], strangers: RequestFigures, hostname: str
) -> Iterator[Metric]:
    """What is told of requests. `strangers` are those for no model that is registered."""
    named = [({**one.labels, "hostname": hostname}, one) for one in requests]
    every = [*requests, strangers] if strangers.by_status else requests
    yield _family(
        "ts_inference_requests_total",
        "counter",
        "Inference requests.",
        [(labels, sum(one.latency.counts)) for labels, one in named],
    )
    yield _family(
        "ts_inference_latency_microseconds",
        "unknown",
        "Time from request to answer, summed, in microseconds.",
        [(labels, one.latency.total * 1e6) for labels, one in named],
    )
    yield _family(
        "marserve_requests_total",
        "counter",
        "Inference requests by the status of their answer.",
        [
            ({**one.labels, "code": str(status)}, counter.value)
            for one in every
            for status, counter in one.by_status.copy().items()
        ],
    )
    yield _histograms(
        "marserve_request_latency_seconds",
        "Time from the last byte of a request to its answer.",
        [(one.labels, one.latency) for one in every],
    )


def version_families(versions: list[VersionFigures], hostname: str) -> Iterator[Metric]:
    """What is told of batches and workers.

    A batch does not know which of its requests named a version, so the label of
    `ts_queue_latency_microseconds` is the version that served, where TorchServe may say `default`.
    """
    yield _family(
        "ts_queue_latency_microseconds",
        "unknown",
        "Time that requests waited for a worker, summed, in microseconds.",
        [({**one.labels, "hostname": hostname}, one.queue.total * 1e6) for one in versions],
    )
    yield _histograms(
        "marserve_queue_time_seconds",
        "Time from admission to dispatch, per request.",
        [(one.labels, one.queue) for one in versions],
    )
    yield _histograms(
        "marserve_handler_time_seconds",
        "Time inside the handler, per batch.",
        [(one.labels, one.handler) for one in versions],
    )
    yield _histograms(
        "marserve_batch_size",
        "Requests per batch.",
        [(one.labels, one.batch_size) for one in versions],
    )
    yield _family(
        "marserve_workers",
        "gauge",
        "Workers by state.",
        [
            ({**one.labels, "state": state}, float(count))
            for one in versions
            for state, count in zip(("wanted", "alive", "ready"), one.workers, strict=True)
        ],
    )
    yield _family(
        "marserve_worker_restarts_total",
        "counter",
        "Workers that ended unasked.",
        [(one.labels, one.restarts.value) for one in versions],
    )
    yield _family(
        "marserve_queue_depth",
        "gauge",
        "Requests that wait for a worker.",
        [(one.labels, one.depth.value) for one in versions],
    )


def _family(name: str, kind: str, help_text: str, rows: list[tuple[Labels, float]]) -> Metric:
    """A family whose samples all bear `name` itself."""
    family = Metric(name.removesuffix("_total") if kind == "counter" else name, help_text, kind)
    family.samples = [Sample(name, labels, value) for labels, value in rows]
    return family


def _histograms(name: str, help_text: str, rows: list[tuple[Labels, Histogram]]) -> Metric:
    family = Metric(name, help_text, "histogram")
    for labels, histogram in rows:
        family.samples.extend(histogram.samples(name, labels))
    return family


def _release() -> str:
    try:
        return version("marserve")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"


_RELEASE = _release()
