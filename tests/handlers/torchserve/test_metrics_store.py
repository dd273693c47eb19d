import json

import pytest

from marserve_handlers import metric_lines
from marserve_handlers.metric_values import Dimension, MetricTypes
from marserve_handlers.torchserve.metrics_store import (
    Metric,
    MetricEncoder,
    MetricsStore,
    Units,
    emit_metrics,
)

MODEL = {"ModelName": "m", "Level": "Model"}


def read(text):
    """What the server reads of printed lines."""
    samples = [metric_lines.parse(line).sample for line in text.splitlines()]
    return [(one.name, one.value, one.unit, one.dimensions, one.request_ids) for one in samples]


def test_a_metric_is_a_line_and_a_dict():
    metric = Metric("T", 1.5, "ms", [Dimension("A", "b")], "r0", MetricTypes.GAUGE)
    line = f"[METRICS]{metric}"
    assert read(line) == [("T", 1.5, "Milliseconds", {"A": "b"}, ("r0",))]
    told = metric.to_dict()
    assert told.pop("Timestamp") > 1_700_000_000
    assert told.pop("HostName")
    assert list(told) == ["MetricName", "Value", "Unit", "Dimensions", "RequestId"]
    assert json.loads(json.dumps(metric, cls=MetricEncoder))["Dimensions"] == [
        {"Name": "A", "Value": "b"}
    ]
    with pytest.raises(TypeError):
        json.dumps(object(), cls=MetricEncoder)


def test_more_values_are_printed_at_once(capsys):
    metric = Metric("C", 1, "count", [], None, "counter")
    metric.update(2)
    metric.reset()
    expected = [("C", value, "Count", {}, ()) for value in (2.0, 0.0)]
    assert read(capsys.readouterr().out) == expected
    assert (metric.value, str(metric).partition("|")[0]) == (1, "C.Count:1")


def test_a_store_collects_and_emits(capsys):
    store = MetricsStore({0: "r0", 1: "r1"}, "m")
    store.add_counter("Seen", 1)
    store.add_counter("Seen", 2)
    store.add_counter("Seen", 4, 0)
    store.add_time("Decode", 3, 1, "s")
    store.add_size("Input", 1, unit="GB")
    store.add_percent("Fill", 50)
    store.add_error("Bad", 1)
    store.add_metric("Own", 1, "widgets", dimensions=[Dimension("City", "Bonn")])
    second = ("Seen", 2.0, "Count", MODEL, ("r0", "r1"))
    assert read(capsys.readouterr().out) == [second]
    emit_metrics(store.store)
    assert read(capsys.readouterr().out) == [
        ("Seen", 1.0, "Count", MODEL, ("r0", "r1")),
        ("Seen", 4.0, "Count", MODEL, ("r0",)),
        ("Decode", 3.0, "Seconds", MODEL, ("r1",)),
        ("Input", 1.0, "Gigabytes", MODEL, ("r0", "r1")),
        ("Fill", 50.0, "Percent", MODEL, ("r0", "r1")),
        ("Bad", 1.0, "unit", {"Level": "Error"}, ()),
        ("Own", 1.0, "widgets", {"City": "Bonn", **MODEL}, ("r0", "r1")),
    ]
    assert len(store.cache) == len(store.store) == 7


@pytest.mark.parametrize(("call", "unit"), [("add_time", "h"), ("add_size", "TB")])
def test_a_unit_that_does_not_fit_is_refused(call, unit):
    with pytest.raises(ValueError, match="use one of"):
        getattr(MetricsStore(None, "m"), call)("x", 1, unit=unit)


def test_units_have_long_names():
    assert Units().units["ms"] == "Milliseconds"
