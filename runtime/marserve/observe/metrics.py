"""What the server's events add up to, for Prometheus: TorchServe's names and our own.

Every event arrives on the event loop's thread (the bus sees to that; the WSGI ports hand theirs
over with `call_soon_threadsafe`), where an observation is a method call on a plain figure. The
library sees figures only when a scrape, in another thread, copies them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Metric, PlatformCollector, ProcessCollector
from prometheus_client.registry import Collector

from marserve.events import (
    BatchAnswered,
    BatchFormed,
    Bus,
    GrpcAnswered,
    GrpcCallsAnswered,
    HandlerMetric,
    HttpAnswered,
    QueueChanged,
    RequestAnswered,
    RequestRefused,
    RequestsAnswered,
    RequestsDropped,
    VersionGone,
    WorkerExited,
    WorkerReady,
    WorkersChanged,
)
from marserve.observe import metrics_config
from marserve.observe.exposition import lost_log_lines, own_families, server_families
from marserve.observe.figures import (
    CallFigures,
    Counter,
    Histogram,
    HostFigures,
    RequestFigures,
    VersionFigures,
)
from marserve.observe.handler_metrics import HandlerMetrics
from marserve.observe.metrics_config import MetricsConfig
from marserve.observe.survival import Survival
from marserve.refs import ModelRef

MAX_CLIENT_NAMES = 10_000
"""Distinct (model, version) pairs in requests; more are counted as `unknown`."""

GRPC = "gRPC"
"""The method of requests that came over gRPC."""

PREDICTION_TIME = "PredictionTime"

MAX_CALLS = 100
"""Distinct gRPC methods."""

_UNIMPLEMENTED = 12

UNKNOWN = "(unknown)"
"""No model can be called this."""


class Metrics:
    """Listens to `bus` and shows what it heard in `registry`.

    Args:
        bus: where events come from.
        hostname: the value of TorchServe's `Hostname` and `hostname` labels.
        config: which of TorchServe's metrics are shown, and how.
        system: the machine's own figures; None: they are not shown.
        lost_lines: how many lines of the log could not be written so far. Called from any thread.
    """

    def __init__(
        self,
        bus: Bus,
        hostname: str,
        config: MetricsConfig | None = None,
        system: Collector | None = None,
        lost_lines: Callable[[], int] = lambda: 0,
    ) -> None:
        self._hostname = hostname
        self._lost_lines = lost_lines
        self._config = config or metrics_config.default()
        self._host = HostFigures()
        self._requests: dict[tuple[str, str | None], RequestFigures] = {}
        self._strangers = RequestFigures(UNKNOWN, UNKNOWN)
        self._versions: dict[ModelRef, VersionFigures] = {}
        self._calls: dict[str, CallFigures] = {}
        self._handlers = HandlerMetrics(hostname, self._config)
        self._shows_prediction_time = shows_prediction_time(self._config)
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.registry.register(self._handlers)
        self.registry.register(Survival(bus))
        if system is not None:
            self.registry.register(system)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._subscribe(bus)

    # --- runs on the event loop ---

    @property
    def loop_lag(self) -> Histogram:
        """Gets how late the event loop is, in seconds."""
        return self._host.lag

    def is_registered(self, name: str, version: str | None) -> bool:
        """Whether there is such a model, or such a version of it."""
        if version is not None:
            return ModelRef(name, version) in self._versions
        return any(ref.name == name for ref in self._versions)

    def _subscribe(self, bus: Bus) -> None:
        bus.subscribe(RequestsAnswered, self._requests_answered)
        bus.subscribe(BatchAnswered, self._batch_answered)
        bus.subscribe(BatchFormed, self._batch_formed)
        bus.subscribe(RequestsDropped, self._requests_dropped)
        bus.subscribe(HttpAnswered, self._http_answered)
        bus.subscribe(GrpcCallsAnswered, self._grpc_answered)
        bus.subscribe(HandlerMetric, self._handler_metric)
        bus.subscribe(RequestRefused, self._request_refused)
        bus.subscribe(WorkerReady, self._worker_ready)
        bus.subscribe(WorkerExited, self._worker_exited)
        bus.subscribe(WorkersChanged, self._workers_changed)
        bus.subscribe(QueueChanged, self._queue_changed)
        bus.subscribe(VersionGone, self._version_gone)

    def _requests_answered(self, event: RequestsAnswered) -> None:
        for answered in event.requests:
            figures = self._requests.get((answered.name, answered.version))
            if figures is None:
                figures = self._first_request(answered)
            figures.add(answered.status, answered.latency_s)
            if answered.origin.method != GRPC:  # TorchServe counts answers of HTTP alone
                self._host.count_answer(answered.status)

    def _http_answered(self, event: HttpAnswered) -> None:
        self._host.count_answer(event.status)

    def _grpc_answered(self, event: GrpcCallsAnswered) -> None:
        for answered in event.calls:
            figures = self._calls.get(answered.origin.path)
            if figures is None:
                figures = self._first_call(answered)
            figures.add(answered.code, answered.duration_s)

    def _first_call(self, answered: GrpcAnswered) -> CallFigures:
        # clients write names of methods, too; those that exist are few
        is_strange = answered.code == _UNIMPLEMENTED or len(self._calls) >= MAX_CALLS
        path = UNKNOWN if is_strange else answered.origin.path
        return self._calls.setdefault(path, CallFigures(path))

    def _batch_answered(self, event: BatchAnswered) -> None:
        figures = self._version(event.ref)
        for waited_s in event.queue_s:
            figures.queue.observe(waited_s)
        figures.handler.observe(event.handler_s)
        figures.batch_size.observe(event.size)
        self._host.add_batch(
            max(event.queue_s, default=0.0) * 1000, (event.worker_s - event.handler_s) * 1000
        )
        if self._shows_prediction_time:
            self._handlers.take(prediction_time(event))

    def _batch_formed(self, event: BatchFormed) -> None:
        figures = self._version(event.ref)
        figures.linger.observe(event.held_s)
        figures.learned = event.learned
        figures.fill.observe(event.size / event.learned[2])

    def _requests_dropped(self, event: RequestsDropped) -> None:
        dropped = self._version(event.ref).dropped
        dropped.setdefault(event.reason, Counter()).add(event.count)

    def _handler_metric(self, event: HandlerMetric) -> None:
        self._handlers.take(event)

    def _request_refused(self, event: RequestRefused) -> None:
        self._host.refused.setdefault(event.reason, Counter()).add()

    def _worker_ready(self, event: WorkerReady) -> None:
        self._version(event.ref)
        self._host.load_ms[event.ref, event.worker] = event.load_s * 1000

    def _worker_exited(self, event: WorkerExited) -> None:
        self._host.load_ms.pop((event.ref, event.worker), None)
        if not event.expected:
            self._version(event.ref).restarts.add()

    def _workers_changed(self, event: WorkersChanged) -> None:
        self._version(event.ref).workers = (event.wanted, event.alive, event.ready)

    def _queue_changed(self, event: QueueChanged) -> None:
        self._version(event.ref).depth.value = event.depth

    def _version_gone(self, event: VersionGone) -> None:
        ref = event.ref
        self._versions.pop(ref, None)
        self._requests.pop((ref.name, ref.version), None)
        for key in [key for key in self._host.load_ms if key[0] == ref]:
            del self._host.load_ms[key]
        is_last = all(other.name != ref.name for other in self._versions)
        if is_last:
            for pair in [pair for pair in self._requests if pair[0] == ref.name]:
                del self._requests[pair]
        self._handlers.forget(ref, is_last)

    def _version(self, ref: ModelRef) -> VersionFigures:
        figures = self._versions.get(ref)
        if figures is None:
            figures = self._versions[ref] = VersionFigures(ref)
        return figures

    def _first_request(self, event: RequestAnswered) -> RequestFigures:
        """Where to count a request whose (model, version) was not counted before.

        Clients write names; only those of registered models become labels. A version that was
        seen in another event is registered, and so is one that got as far as a 2xx or a 5xx.
        """
        pair = (event.name, event.version)
        is_known = self.is_registered(*pair) or not 300 <= event.status < 500
        if not is_known or len(self._requests) >= MAX_CLIENT_NAMES:
            return self._strangers
        requests = self._requests[pair] = RequestFigures(event.name, event.version or "default")
        return requests

    # --- runs in the thread that scrapes ---

    def collect(self) -> Iterator[Metric]:
        """All families; each is a copy of its figures at one moment."""
        requests = list(self._requests.copy().values())
        versions = list(self._versions.copy().values())
        yield from server_families(self._config, self._host, requests, versions, self._hostname)
        if self._strangers.by_status:
            requests.append(self._strangers)
        calls = list(self._calls.copy().values())
        yield from own_families(self._host, requests, versions, calls)
        yield lost_log_lines(self._lost_lines())


def shows_prediction_time(config: MetricsConfig) -> bool:
    """Whether the time of batches is wanted as a metric of their models."""
    return config.auto_detect or PREDICTION_TIME in config.models


def prediction_time(event: BatchAnswered) -> HandlerMetric:
    """TorchServe's worker reports the time of each batch as if the handler did."""
    return HandlerMetric(
        event.ref,
        PREDICTION_TIME,
        event.handler_s * 1000,
        "ms",
        "gauge",
        {"ModelName": event.ref.name, "Level": "Model"},
        event.request_ids,
    )
