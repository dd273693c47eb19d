"""Figures -> families of the library, under TorchServe's names and our own. Writes no text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import Metric
from prometheus_client.core import Sample

from marserve.observe.figures import (
    CallFigures,
    Histogram,
    HostFigures,
    Labels,
    RequestFigures,
    VersionFigures,
)
from marserve.observe.metric_specs import SERVER_METRICS, MetricSpec
from marserve.observe.metrics_config import MetricsConfig

_OWN_PREFIXES = ("marserve_", "process_", "python_")

GRPC_CODES = dict(
    enumerate(
        (
            *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
            *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
            *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
            "UNAUTHENTICATED",
        )
    )
)

Row = tuple[tuple[str, ...], "float | Histogram"]
"""Label values in the order of a spec's labels, and the figure."""


def is_reserved(name: str) -> bool:
    """Whether a handler may not use `name`, because the server does."""
    return name in SERVER_METRICS or name.startswith(_OWN_PREFIXES)


class _Counter(str):
    """The type of a counter whose samples bear the family's very name.

    The library prints `_total` behind the name of a family of type `counter`. TorchServe's
    `Requests2XX` and the counters of handlers have no such ending, and without a type line of
    their own scrapers take them for untyped: some turn those into gauges, others drop them. So
    the type reads `counter` but is not equal to the word by which the library knows its own.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return super().__hash__()


_COUNTER = _Counter("counter")


def family(name: str, kind: str, documentation: str, samples: Iterable[Sample] = ()) -> Metric:
    """A family that is printed under exactly this name and type."""
    one = Metric(name, documentation, "unknown" if kind == "counter" else kind)
    if kind == "counter":
        one.type = _COUNTER
    one.samples = list(samples)
    return one


def selected(whole: Metric, samples: list[Sample]) -> Metric:
    """The same family with these samples alone."""
    one = Metric(whole.name, whole.documentation, "unknown")
    one.type = whole.type
    one.samples = samples
    return one


def of_spec(spec: MetricSpec, rows: Iterable[Row]) -> Metric:
    """One of TorchServe's metrics, as `metrics.yaml` has it."""
    one = family(spec.name, spec.kind, spec.help)
    for values, figure in rows:
        labels = dict(zip(spec.labels, values, strict=True))
        if isinstance(figure, Histogram):
            one.samples.extend(figure.samples(spec.name, labels))
        else:
            one.samples.append(Sample(spec.name, labels, figure))
    return one


def server_families(
    config: MetricsConfig,
    figures: HostFigures,
    requests: Sequence[RequestFigures],
    versions: Sequence[VersionFigures],
    hostname: str,
) -> Iterator[Metric]:
    """TorchServe's metrics, those of the machine left out.

    A batch does not know which of its requests named a version, so `model_version` of
    `ts_queue_latency_microseconds` is the version that served, where TorchServe may say `default`.
    """
    rows = _server_rows(config, figures, requests, versions, hostname)
    for name, spec in config.server.items():
        if name in rows:
            yield of_spec(spec, rows[name])


def _server_rows(
    config: MetricsConfig,
    figures: HostFigures,
    requests: Sequence[RequestFigures],
    versions: Sequence[VersionFigures],
    hostname: str,
) -> dict[str, list[Row]]:
    host = ("Host", hostname)
    rows: dict[str, list[Row]] = {
        f"Requests{digit}XX": [(host, counter.value)] for digit, counter in figures.answers.items()
    }
    for name, latest, all_of_them in (
        ("QueueTime", figures.queue_ms, figures.queues_ms),
        ("WorkerThreadTime", figures.overhead_ms, figures.overheads_ms),
    ):
        spec = config.server.get(name)
        is_histogram = spec is not None and spec.kind == "histogram"
        shown = all_of_them if is_histogram else latest
        rows[name] = [] if latest is None or shown is None else [(host, shown)]
    rows["WorkerLoadTime"] = [
        ((f"W-{worker}-{ref.name}_{ref.version}", *host), load_ms)
        for (ref, worker), load_ms in figures.load_ms.copy().items()
    ]
    named = [((*one.labels.values(), hostname), one.latency) for one in requests]
    rows["ts_inference_requests_total"] = [
        (labels, float(sum(latency.counts))) for labels, latency in named
    ]
    rows["ts_inference_latency_microseconds"] = [
        (labels, latency.total * 1e6) for labels, latency in named
    ]
    rows["ts_queue_latency_microseconds"] = [
        ((*one.labels.values(), hostname), one.queue.total * 1e6) for one in versions
    ]
    return rows


def own_families(
    figures: HostFigures,
    requests: Sequence[RequestFigures],
    versions: Sequence[VersionFigures],
    calls: Sequence[CallFigures],
) -> Iterator[Metric]:
    """What we tell beyond TorchServe. `requests` includes those for no registered model."""
    yield from _request_families(figures, requests)
    yield from _call_families(calls)
    yield from _batch_families(versions)
    yield from _worker_families(versions)
    yield _histograms(
        "marserve_event_loop_lag_seconds",
        "How late the event loop came to a timer, ten times a second.",
        [({}, figures.lag)],
    )
    build = ({"version": _RELEASE}, 1.0)
    yield _rows("marserve_build_info", "gauge", "The running release.", [build])


def lost_log_lines(count: int) -> Metric:
    """What the logs lack because a disk or a pipe did not take it."""
    return _rows(
        "marserve_log_records_dropped_total",
        "counter",
        "Log records and lines that could not be written, or came too fast.",
        [({}, float(count))],
    )


def _request_families(figures: HostFigures, requests: Sequence[RequestFigures]) -> Iterator[Metric]:
    yield _rows(
        "marserve_requests_total",
        "counter",
        "Inference requests by the status of their answer.",
        [
            ({**one.labels, "code": str(status)}, counter.value)
            for one in requests
            for status, counter in one.by_status.copy().items()
        ],
    )
    yield _histograms(
        "marserve_request_latency_seconds",
        "Time from the last byte of a request to its answer.",
        [(one.labels, one.latency) for one in requests],
    )
    yield _rows(
        "marserve_requests_refused_total",
        "counter",
        "Requests refused before they queued, by reason.",
        [({"reason": reason}, one.value) for reason, one in figures.refused.copy().items()],
    )


def _call_families(calls: Sequence[CallFigures]) -> Iterator[Metric]:
    yield _rows(
        "marserve_grpc_calls_total",
        "counter",
        "gRPC calls by the code they ended with.",
        [
            ({**one.labels, "code": GRPC_CODES.get(code, str(code))}, counter.value)
            for one in calls
            for code, counter in one.by_code.copy().items()
        ],
    )
    yield _histograms(
        "marserve_grpc_call_duration_seconds",
        "Time from the beginning of a gRPC call to its end.",
        [(one.labels, one.duration) for one in calls],
    )


def _batch_families(versions: Sequence[VersionFigures]) -> Iterator[Metric]:
    yield _rows(
        "marserve_queue_depth",
        "gauge",
        "Requests that wait for a worker.",
        [(one.labels, one.depth.value) for one in versions],
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
    yield from _forming_families(versions)


def _forming_families(versions: Sequence[VersionFigures]) -> Iterator[Metric]:
    yield _histograms(
        "marserve_batch_linger_seconds",
        "Time a batch was held back, while a worker was free, to fill.",
        [(one.labels, one.linger) for one in versions],
    )
    yield _histograms(
        "marserve_batch_fill_ratio",
        "Requests of a batch, as a share of the most that may go together.",
        [(one.labels, one.fill) for one in versions],
    )
    yield _rows(
        "marserve_requests_dropped_total",
        "counter",
        "Requests that waited and could not be answered in time, by reason.",
        [
            ({**one.labels, "reason": reason}, counter.value)
            for one in versions
            for reason, counter in one.dropped.copy().items()
        ],
    )
    learned = [(one.labels, one.learned) for one in versions if one.learned is not None]
    yield _rows(
        "marserve_batch_limit",
        "gauge",
        "The most requests that may go together now.",
        [(labels, float(limit)) for labels, (_, _, limit) in learned],
    )
    yield _rows(
        "marserve_batch_fixed_seconds",
        "gauge",
        "What a batch takes however small it is, learned.",
        [(labels, fixed_s) for labels, (fixed_s, _, _) in learned],
    )
    yield _rows(
        "marserve_batch_request_seconds",
        "gauge",
        "What each request adds to that, learned.",
        [(labels, each_s) for labels, (_, each_s, _) in learned],
    )


def _worker_families(versions: Sequence[VersionFigures]) -> Iterator[Metric]:
    yield _rows(
        "marserve_workers",
        "gauge",
        "Workers by state.",
        [
            ({**one.labels, "state": state}, float(count))
            for one in versions
            for state, count in zip(("wanted", "alive", "ready"), one.workers, strict=True)
        ],
    )
    yield _rows(
        "marserve_worker_restarts_total",
        "counter",
        "Workers that ended unasked.",
        [(one.labels, one.restarts.value) for one in versions],
    )


def _rows(name: str, kind: str, documentation: str, rows: list[tuple[Labels, float]]) -> Metric:
    return family(name, kind, documentation, (Sample(name, *row) for row in rows))


def _histograms(name: str, documentation: str, rows: list[tuple[Labels, Histogram]]) -> Metric:
    samples = (sample for labels, one in rows for sample in one.samples(name, labels))
    return family(name, "histogram", documentation, samples)


def _release() -> str:
    try:
        return version("marserve")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"


_RELEASE = _release()
