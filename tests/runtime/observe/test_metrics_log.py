"""Figures as lines, in TorchServe's form."""

import re
import time

import pytest
from tests.harness.answers import told

from marserve.events import (
    BatchAnswered,
    Bus,
    HandlerMetric,
    HttpAnswered,
    WorkerReady,
)
from marserve.observe import metrics_config
from marserve.observe.gpus import GpuReading
from marserve.observe.logs import configure
from marserve.observe.metric_specs import LEGACY, MetricSpec
from marserve.observe.metrics_log import MetricsLog, SystemMetricsLog, server_line
from marserve.observe.system import SystemCollector
from marserve.refs import ModelRef

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3}"
REF = ModelRef("m", "1.0")
BATCH = BatchAnswered(REF, 2, (0.002, 0.004), 0.25, 0.5, ("r1", "r2"))


def answered(status=200, version=None, method="POST", name="m"):
    path = f"/predictions/{name}"
    return told(name, version, status, 0.5, method, path, "127.0.0.1:1")


def reported(name="Size", value=2.0, kind="gauge", unit="MB", request_ids=(), **dimensions):
    return HandlerMetric(REF, name, value, unit, kind, dimensions, request_ids)


class Watched:
    def __init__(self, folder, config=None, exported=()):
        self.folder = folder
        self.bus = Bus()
        self.logs = configure(folder, foreground=False)
        config = config or metrics_config.default()
        MetricsLog(self.bus, self.logs, "box", config, lambda name, _: name == "m", exported)

    def lines(self, name, *events):
        """What is written, without the moments, which must be now."""
        for event in events:
            self.bus.publish(event)
        self.logs.close()
        found = []
        for line in (self.folder / f"{name}.log").read_text().splitlines():
            match = re.fullmatch(rf"{STAMP} - (.*),timestamp:(\d+)", line)
            assert match, line
            assert abs(int(match[2]) - time.time()) < 60
            found.append(match[1])
        return found


@pytest.fixture
def watched(tmp_path):
    one = Watched(tmp_path)
    yield one
    one.logs.close()


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (
            answered(),
            [
                "Requests2XX.Count:1.0|#Level:Host|#hostname:box",
                "ts_inference_requests_total.Count:1.0|#model_name:m,model_version:default"
                "|#hostname:box",
                "ts_inference_latency_microseconds.Microseconds:500000.0"
                "|#model_name:m,model_version:default|#hostname:box",
            ],
        ),
        (
            answered(version="2.0", method="gRPC"),
            [
                "ts_inference_requests_total.Count:1.0|#model_name:m,model_version:2.0"
                "|#hostname:box",
                "ts_inference_latency_microseconds.Microseconds:500000.0"
                "|#model_name:m,model_version:2.0|#hostname:box",
            ],
        ),
        (
            answered(404, name="ghost"),
            ["Requests4XX.Count:1.0|#Level:Host|#hostname:box"],
        ),
        (
            HttpAnswered("management", "GET", "/models", "::", 302, 0.1),
            ["Requests5XX.Count:1.0|#Level:Host|#hostname:box"],
        ),
        (
            BATCH,
            [
                "ts_queue_latency_microseconds.Microseconds:2000.0"
                "|#model_name:m,model_version:1.0|#hostname:box",
                "ts_queue_latency_microseconds.Microseconds:4000.0"
                "|#model_name:m,model_version:1.0|#hostname:box",
                "QueueTime.Milliseconds:4.0|#Level:Host|#hostname:box",
                "WorkerThreadTime.Milliseconds:250.0|#Level:Host|#hostname:box",
            ],
        ),
        (
            WorkerReady(REF, "9000", 7, 1.5),
            [
                "WorkerLoadTime.Milliseconds:1500.0|#WorkerName:W-9000-m_1.0,Level:Host"
                "|#hostname:box"
            ],
        ),
    ],
)
def test_the_servers_figures_are_lines(watched, event, lines):
    assert watched.lines("ts_metrics", event) == lines


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (
            reported(request_ids=("r1", "r2"), ModelName="m", Level="Model"),
            ["Size.Megabytes:2.0|#ModelName:m,Level:Model|#hostname:box,requestID:r1,r2"],
        ),
        (
            reported("HandlerTime", 12.5, unit="ms", ModelName="m", Level="Model"),
            ["HandlerTime.ms:12.5|#ModelName:m,Level:Model|#hostname:box,requestID:null"],
        ),
        (
            BATCH,
            ["PredictionTime.ms:250.0|#ModelName:m,Level:Model|#hostname:box,requestID:r1,r2"],
        ),
        (
            reported("a\nb", unit='"', request_ids=("r\n1",), x="y\n2024 - z"),
            ["a\\x0ab.\\x22:2.0|#x:y\\x0a2024 - z|#hostname:box,requestID:r\\x0a1"],
        ),
        (reported(value=float("nan")), []),
        (reported(value=-1.0, kind="counter"), []),
    ],
)
def test_the_figures_of_handlers_are_lines(watched, event, lines):
    assert watched.lines("model_metrics", event) == lines


LISTED = metrics_config.parse(
    """
    ts_metrics: {gauge: [{name: QueueTime, unit: Millis, dimensions: [L, H]}]}
    model_metrics: {gauge: [{name: Size, unit: Things, dimensions: [Phase]}]}
    """
)


@pytest.mark.parametrize(
    ("file", "lines"),
    [
        ("ts_metrics", ["QueueTime.Millis:4.0|#L:Host|#hostname:box"]),
        ("model_metrics", ["Size.Things:2.0|#Phase:a|#hostname:box,requestID:null"]),
    ],
)
def test_only_what_is_listed_is_logged_under_listed_names(tmp_path, file, lines):
    watched = Watched(tmp_path, LISTED)
    events = (BATCH, answered(), reported(stage="a"), reported("Other"), reported(a="1", b="2"))
    assert watched.lines(file, *events) == lines


def test_what_the_endpoint_shows_is_not_logged(tmp_path):
    lines = Watched(tmp_path, exported=LEGACY).lines("ts_metrics", answered(), BATCH)
    assert [line.partition(".")[0] for line in lines] == [
        "Requests2XX",
        "QueueTime",
        "WorkerThreadTime",
    ]


class OneGpu:
    def read(self):
        return (GpuReading(0, 97.0, 12.5, 10_000.0),)


def test_the_machines_figures_are_written_at_once_and_then_again_and_again(tmp_path):
    logs = configure(tmp_path, foreground=False)
    system = SystemCollector("box", disk=tmp_path, max_age_s=0.0, gpus=OneGpu())
    running = SystemMetricsLog(system, logs, "box", interval_s=0.05)

    def lines(name):
        return re.findall(rf"^{STAMP} - {name}.*$", path.read_text(), re.MULTILINE)

    path = tmp_path / "ts_metrics.log"
    deadline = time.monotonic() + 10
    while len(lines("MemoryUsed")) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    running.close()
    logs.close()
    assert len(lines("MemoryUsed")) >= 3
    assert re.search(
        r"CPUUtilization\.Percent:[0-9.]+\|#Level:Host\|#hostname:box,timestamp:\d+$",
        lines("CPUUtilization")[0],
    )
    assert "GPUUtilization.Percent:97.0|#Level:Host,DeviceId:0|#hostname:box" in path.read_text()


def test_a_line_ends_with_the_host_whatever_its_label_is_called():
    spec = MetricSpec("X", "gauge", "Unit", ("A", "Box"))
    assert server_line("now", spec, 1, ("a",), "box", 7.9) == (
        "now - X.Unit:1.0|#A:a|#hostname:box,timestamp:7"
    )
