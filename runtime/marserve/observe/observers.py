"""Everybody who listens, as the configuration wants them."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.registry import Collector

from marserve.config import Config
from marserve.events import Bus
from marserve.observe import metrics_config
from marserve.observe.access_log import AccessLog
from marserve.observe.logs import Logs
from marserve.observe.loop_lag import LoopLag
from marserve.observe.metric_specs import LEGACY
from marserve.observe.metrics import Metrics
from marserve.observe.metrics_config import MetricsConfig
from marserve.observe.metrics_log import MetricsLog, SystemMetricsLog
from marserve.observe.printed_metrics import PrintedMetrics
from marserve.observe.selection import Selection
from marserve.observe.system import SystemCollector
from marserve.observe.worker_log import WorkerLog

_log = logging.getLogger("marserve.observe")


class Observers:
    """Logs and metrics of one server. `registry` is what its metrics port shows.

    The mode decides: `prometheus` shows everything, and the metrics logs stay empty; `log` logs
    everything, and the port shows nothing; `legacy` shows three metrics and logs the others.

    Raises:
        ConfigInvalid: the file `metrics_config` names cannot be used.
    """

    def __init__(self, bus: Bus, config: Config, logs: Logs, hostname: str) -> None:
        self.metrics_config: MetricsConfig = metrics_config.read(
            config.metrics_config, config.model_metrics_auto_detect
        )
        for note in self.metrics_config.notes:
            _log.warning("%s", note)
        system = None
        if not config.disable_system_metrics:
            system = SystemCollector(hostname, self.metrics_config.server)
        metrics = Metrics(bus, hostname, self.metrics_config, system, lambda: logs.dropped)
        if config.access_log:
            AccessLog(bus, logs)
        WorkerLog(bus)
        self._lag = LoopLag(metrics.loop_lag)
        self._printed = PrintedMetrics(bus)
        self._printed.attach()
        self._system_log: SystemMetricsLog | None = None
        self.registry: Collector = metrics.registry
        if config.metrics_mode == "prometheus":
            return
        is_legacy = config.metrics_mode == "legacy"
        self.registry = Selection(metrics.registry, LEGACY) if is_legacy else _Nothing()
        shown = LEGACY if is_legacy else ()
        MetricsLog(bus, logs, hostname, self.metrics_config, metrics.is_registered, shown)
        if system is not None:
            interval_s = config.metric_time_interval_s
            self._system_log = SystemMetricsLog(system, logs, hostname, interval_s)

    def start(self) -> None:
        """Watch the running loop."""
        self._lag.start()

    def close(self) -> None:
        """End what runs by itself. Call it before the logs are closed."""
        self._lag.close()
        self._printed.detach()
        if self._system_log is not None:
            self._system_log.close()


class _Nothing(Collector):
    """No metrics."""

    def collect(self) -> Iterable[Metric]:
        return ()
