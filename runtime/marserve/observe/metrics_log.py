"""`ts_metrics.log` and `model_metrics.log`: one line per figure, in TorchServe's form.

Written in the modes `log` and `legacy`, for whoever collects metrics from logs. Events arrive on
the event loop's thread; a line is one call that never waits. The machine's figures come from a
thread of their own, because reading a disk can take its time.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable

from marserve.events import (
    BatchAnswered,
    Bus,
    HandlerMetric,
    HttpAnswered,
    RequestAnswered,
    RequestsAnswered,
    WorkerReady,
)
from marserve.observe.log_lines import Stamps, quotable
from marserve.observe.logs import MODEL_METRIC_LINES, SERVER_METRIC_LINES, Logs
from marserve.observe.metric_specs import LATENCIES, REQUESTS, MetricSpec
from marserve.observe.metrics import GRPC, prediction_time, shows_prediction_time
from marserve.observe.metrics_config import MetricsConfig
from marserve.observe.system import SystemCollector

IsKnown = Callable[[str, "str | None"], bool]
"""Whether a model, or a version of it, is registered."""


class MetricsLog:
    """Listens to `bus` and writes both files.

    Args:
        bus: where events come from.
        logs: where lines go.
        hostname: told in each line.
        config: which metrics there are.
        is_known: tells requests for registered models from others, which are not counted.
        exported: names of metrics that the endpoint shows, and that are not logged therefore.
    """

    def __init__(
        self,
        bus: Bus,
        logs: Logs,
        hostname: str,
        config: MetricsConfig,
        is_known: IsKnown,
        exported: Iterable[str] = (),
    ) -> None:
        self._add = logs.add_line
        self._hostname = quotable(hostname)
        self._config = config
        self._is_known = is_known
        hidden = frozenset(exported)
        self._specs = {name: spec for name, spec in config.server.items() if name not in hidden}
        self._now = Stamps().now
        bus.subscribe(RequestsAnswered, self._requests_answered)
        bus.subscribe(HttpAnswered, self._http_answered)
        bus.subscribe(BatchAnswered, self._batch_answered)
        bus.subscribe(HandlerMetric, self._handler_metric)
        bus.subscribe(WorkerReady, self._worker_ready)

    def _requests_answered(self, event: RequestsAnswered) -> None:
        for answered in event.requests:
            self._request_answered(answered)

    def _request_answered(self, event: RequestAnswered) -> None:
        if event.origin.method != GRPC:
            self._answered(event.status)
        if 300 <= event.status < 500 and not self._is_known(event.name, event.version):
            return
        labels = (event.name, event.version or "default")
        self._server_line(REQUESTS, 1.0, *labels)
        self._server_line(LATENCIES[0], event.latency_s * 1e6, *labels)

    def _http_answered(self, event: HttpAnswered) -> None:
        self._answered(event.status)

    def _answered(self, status: int) -> None:
        digit = status // 100 if status // 100 in (2, 4) else 5
        self._server_line(f"Requests{digit}XX", 1.0, "Host")

    def _batch_answered(self, event: BatchAnswered) -> None:
        ref = event.ref
        for waited_s in event.queue_s:
            self._server_line(LATENCIES[1], waited_s * 1e6, ref.name, ref.version)
        self._server_line("QueueTime", max(event.queue_s, default=0.0) * 1000, "Host")
        overhead_s = event.worker_s - event.handler_s
        self._server_line("WorkerThreadTime", overhead_s * 1000, "Host")
        if shows_prediction_time(self._config):
            self._handler_metric(prediction_time(event))

    def _worker_ready(self, event: WorkerReady) -> None:
        name = f"W-{event.worker}-{event.ref.name}_{event.ref.version}"
        self._server_line("WorkerLoadTime", event.load_s * 1000, name, "Host")

    def _server_line(self, name: str, value: float, *values: str) -> None:
        spec = self._specs.get(name)
        if spec is not None:
            now, stamp = self._now()
            self._add(
                SERVER_METRIC_LINES, server_line(stamp, spec, value, values, self._hostname, now)
            )

    def _handler_metric(self, event: HandlerMetric) -> None:
        shape = self._config.shape(event.name, event.kind, event.unit, event.dimensions)
        if isinstance(shape, str) or not math.isfinite(event.value):
            return
        if shape.kind == "counter" and event.value < 0:
            return
        now, stamp = self._now()
        what = f"{quotable(event.name)}.{quotable(shape.unit)}:{float(event.value)!r}"
        labels = _labels(shape.labels.items())
        ids = ",".join(map(quotable, event.request_ids)) or "null"
        self._add(
            MODEL_METRIC_LINES,
            f"{stamp} - {what}|#{labels}|#hostname:{self._hostname},"
            f"requestID:{ids},timestamp:{int(now)}",
        )


class SystemMetricsLog:
    """Writes the machine's figures now and then every `interval_s`, until `close`."""

    def __init__(
        self, system: SystemCollector, logs: Logs, hostname: str, interval_s: float
    ) -> None:
        self._system = system
        self._add = logs.add_line
        self._hostname = quotable(hostname)
        self._interval_s = interval_s
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; a disk that does not answer is left behind."""
        self._closed.set()
        self._thread.join(1.0)

    # --- runs in the thread ---

    def _run(self) -> None:
        now_and_stamp = Stamps().now
        while True:
            for spec, rows in self._system.rows():
                for values, figure in rows:
                    now, stamp = now_and_stamp()
                    line = server_line(stamp, spec, figure, values[:-1], self._hostname, now)
                    self._add(SERVER_METRIC_LINES, line)
            if self._closed.wait(self._interval_s):
                return


def server_line(
    stamp: str,
    spec: MetricSpec,
    value: float,
    values: tuple[str, ...],
    hostname: str,
    now: float,
) -> str:
    """One figure of the server; `values` are those of all labels but the last, the host's."""
    labels = _labels(zip(spec.labels[:-1], values, strict=True))
    what = f"{spec.name}.{quotable(spec.unit)}:{float(value)!r}"
    return f"{stamp} - {what}|#{labels}|#hostname:{hostname},timestamp:{int(now)}"


def _labels(pairs: Iterable[tuple[str, str]]) -> str:
    return ",".join(f"{quotable(name)}:{quotable(value)}" for name, value in pairs)
