import logging
import threading

import pytest

from marserve_handlers.errors import MetricsCacheKeyError, MetricsCacheValueError
from marserve_handlers.metrics import MAX_SAMPLES, Dimension, Metrics, MetricSample, MetricTypes

MODEL = {"ModelName": "m", "Level": "Model"}


def record(name, *args, **kwargs):
    metrics = Metrics("m")
    getattr(metrics, name)(*args, **kwargs)
    return metrics.drain()


@pytest.mark.parametrize(
    ("call", "arguments", "sample"),
    [
        ("add_counter", ("c", 2), MetricSample("c", 2.0, "count", "counter", MODEL)),
        ("add_counter", ("c", 2, 0), MetricSample("c", 2.0, "count", "counter", MODEL)),
        ("add_time", ("t", 1.5), MetricSample("t", 1.5, "ms", "gauge", MODEL)),
        ("add_time", ("t", 1.5, None, "s"), MetricSample("t", 1.5, "s", "gauge", MODEL)),
        ("add_size", ("s", 3), MetricSample("s", 3.0, "MB", "gauge", MODEL)),
        ("add_size", ("s", 3, None, "kB"), MetricSample("s", 3.0, "kB", "gauge", MODEL)),
        ("add_percent", ("p", 50), MetricSample("p", 50.0, "percent", "gauge", MODEL)),
        ("add_metric", ("x", 1, "widgets"), MetricSample("x", 1.0, "widgets", "counter", MODEL)),
        (
            "add_metric",
            ("x", 1, "ms", None, [Dimension("Level", "Host")], MetricTypes.HISTOGRAM),
            MetricSample("x", 1.0, "ms", "histogram", {"Level": "Host", "ModelName": "m"}),
        ),
        (
            "add_error",
            ("e", 1),
            MetricSample("e", 1.0, "count", "counter", {"ModelName": "m", "Level": "Error"}),
        ),
    ],
)
def test_each_call_records_one_sample(call, arguments, sample):
    assert record(call, *arguments) == [sample]


def test_dimensions_of_one_call_do_not_stick_to_the_next():
    metrics = Metrics("m")
    metrics.add_counter("a", 1, dimensions=[Dimension("City", "Bonn")])
    metrics.add_counter("a", 1)
    assert [sample.dimensions for sample in metrics.drain()] == [{"City": "Bonn", **MODEL}, MODEL]


def test_samples_are_handed_over_once():
    metrics = Metrics("m")
    assert metrics.drain() == []
    metrics.add_counter("a", 1)
    metrics.add_counter("b", 1)
    assert [sample.name for sample in metrics.drain()] == ["a", "b"]
    assert metrics.drain() == []


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("add_time", ("t", 1, None, "min")),
        ("add_size", ("s", 1, None, "TB")),
        ("add_metric", ("x", 1, "ms", None, [], "summary")),
    ],
)
def test_an_unknown_unit_or_type_is_refused(call, arguments):
    with pytest.raises(MetricsCacheValueError, match="use one of"):
        record(call, *arguments)


@pytest.mark.parametrize("value", [-1, "many", None, [1]])
def test_a_value_that_cannot_be_counted_is_logged_and_dropped(value, caplog):
    assert record("add_counter", "c", value) == []
    assert "metric c was not recorded" in caplog.text


def test_a_gauge_may_be_negative():
    assert [s.value for s in record("add_metric", "g", -1, "C", None, (), "gauge")] == [-1.0]


def test_a_declared_metric_takes_values_by_position():
    metrics = Metrics("m")
    metric = metrics.add_metric_to_cache("Seen", "count", ["ModelName", "Kind"])
    metric.add_or_update(2, ["m", "cat"])
    metric.update(3, "id", [Dimension("ModelName", "m"), Dimension("Kind", "dog")])
    assert metrics.get_metric("Seen", MetricTypes.COUNTER) is metric
    assert metrics.drain() == [
        MetricSample("Seen", 2.0, "count", "counter", {"ModelName": "m", "Kind": "cat"}),
        MetricSample("Seen", 3.0, "count", "counter", {"ModelName": "m", "Kind": "dog"}),
    ]


def test_a_declared_metric_drops_a_value_with_the_wrong_number_of_dimensions(caplog):
    metrics = Metrics("m")
    metrics.add_metric_to_cache("Seen", "count", ["Kind"]).add_or_update(1, ["a", "b"])
    assert metrics.drain() == []
    assert "2 values were given" in caplog.text


def test_a_recorded_metric_can_be_fetched_and_others_not():
    metrics = Metrics("m")
    metrics.add_time("t", 1)
    metrics.get_metric("t", MetricTypes.GAUGE).add_or_update(2, ["m", "Model"])
    assert [sample.value for sample in metrics.drain()] == [1.0, 2.0]
    with pytest.raises(MetricsCacheKeyError, match="no counter called 't'"):
        metrics.get_metric("t")


def test_samples_that_nobody_fetches_are_bounded_and_said_once(caplog):
    metrics = Metrics("m")
    with caplog.at_level(logging.WARNING):
        for _ in range(MAX_SAMPLES + 5):
            metrics.add_counter("c", 1)
    assert len(metrics.drain()) == MAX_SAMPLES
    assert caplog.text.count("further ones are dropped") == 1


def test_no_sample_of_a_thread_is_lost_while_others_drain():
    metrics = Metrics("m")
    thread = threading.Thread(target=lambda: [metrics.add_counter("c", 1) for _ in range(5000)])
    thread.start()
    drained = 0
    while thread.is_alive():
        drained += len(metrics.drain())
    thread.join()
    assert drained + len(metrics.drain()) == 5000


def test_a_dimension_is_printed_as_name_and_value():
    assert str(Dimension("Level", "Model")) == "Level:Model"
