"""docs/metrics.md lists every metric that a server shows, with its type and its labels."""

import re
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.harness.answers import called, told

from marserve.events import (
    BatchAnswered,
    BatchFormed,
    Bus,
    HandlerMetric,
    QueueChanged,
    RequestRefused,
    RequestsDropped,
    RequestsReceived,
    RequestsRetried,
    WorkerExited,
    WorkerReady,
    WorkersChanged,
)
from marserve.observe.gpus import GpuReading
from marserve.observe.metrics import Metrics
from marserve.observe.system import SystemCollector
from marserve.refs import ModelRef

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(
    r"^\| `(\w+)` \| (counter|gauge|histogram) \| ([\w, ]*)\| (?P<meaning>\S.*) \|$", re.MULTILINE
)

REF = ModelRef("m", "1.0")


class OneGpu:
    def read(self):
        return (GpuReading(0, 97.0, 12.5, 10_000.0),)


@pytest.fixture(scope="module")
def shown():
    """Name, type and labels of every family, once everything has happened."""
    bus = Bus()
    metrics = Metrics(bus, "box", system=SystemCollector("box", gpus=OneGpu()))
    figures = {"ModelName": "m", "Level": "Model"}
    for event in (
        WorkersChanged(REF, 1, 1, 1),
        WorkerReady(REF, "9000", 7, 1.5),
        WorkerExited(REF, "9001", 8, False, "killed"),
        RequestsReceived(1),
        RequestsRetried(REF, 2, 1),
        told("m", None, 200, 0.1, "POST", "/predictions/m", "127.0.0.1:1"),
        RequestRefused("m", "queue_full"),
        QueueChanged(REF, 1),
        BatchFormed(REF, 1, 0.001, (0.008, 0.001, 4)),
        RequestsDropped(REF, 1, "deadline"),
        BatchAnswered(REF, 1, (0.1,), 0.1, 0.2),
        HandlerMetric(REF, "HandlerTime", 1.5, "ms", "gauge", figures),
        HandlerMetric(REF, "odd", 1.0, "", "summary", {}),
        called("a.B/C", "127.0.0.1:1", 0, 0.1),
    ):
        bus.publish(event)
    text = generate_latest(metrics.registry).decode()
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    return {
        name: (family.type, {label for one in family.samples for label in one.labels} - {"le"})
        for name, family in zip(names, text_string_to_metric_families(text), strict=True)
    }


def test_the_document_and_the_server_name_the_same_metrics(shown):
    listed = {
        match[1]: (match[2], set(filter(None, match[3].replace(",", " ").split())))
        for match in ROW.finditer(DOCUMENT.read_text(encoding="utf-8"))
    }
    assert listed == shown


def test_no_row_stands_there_twice():
    names = [match[1] for match in ROW.finditer(DOCUMENT.read_text(encoding="utf-8"))]
    assert len(names) == len(set(names)) > 30
