import copy
import logging
import threading

import numpy as np
import pytest

from marserve_handlers.errors import (
    MetricsCacheIOError,
    MetricsCacheKeyError,
    MetricsCacheTypeError,
    MetricsCacheValueError,
)
from marserve_handlers.metrics import MAX_SAMPLES, Dimension, Metrics, MetricSample, MetricTypes

MODEL = {"ModelName": "m", "Level": "Model"}
ERROR = {"Level": "Error"}


def in_batch(ids=("r0", "r1")):
    metrics = Metrics(model_name="m")
    metrics.set_request_ids(dict(enumerate(ids)))
    return metrics


def record(name, *args, **kwargs):
    metrics = in_batch()
    getattr(metrics, name)(*args, **kwargs)
    return metrics.drain()


def sample(name, value, unit, kind, dimensions=MODEL, request_ids=("r0", "r1")):
    return MetricSample(name, value, unit, kind, dimensions, request_ids)


@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        ("add_counter", ("c", 2), sample("c", 2.0, "Count", "counter")),
        ("add_counter", ("c", 2, 1), sample("c", 2.0, "Count", "counter", request_ids=("r1",))),
        ("add_counter", ("c", 2, 7), sample("c", 2.0, "Count", "counter")),
        ("add_counter", ("c", 2, "0"), sample("c", 2.0, "Count", "counter")),
        ("add_time", ("t", 1.5), sample("t", 1.5, "Milliseconds", "gauge")),
        ("add_time", ("t", 1.5, None, "s"), sample("t", 1.5, "Seconds", "gauge")),
        ("add_size", ("s", 3), sample("s", 3.0, "Megabytes", "gauge")),
        ("add_size", ("s", 3, None, "kB"), sample("s", 3.0, "Kilobytes", "gauge")),
        ("add_percent", ("p", np.float32(50)), sample("p", 50.0, "Percent", "gauge")),
        ("add_metric", ("x", "1", "widgets"), sample("x", 1.0, "widgets", "counter")),
        (
            "add_metric",
            ("x", 1, "", None, [Dimension("Level", "Host")], MetricTypes.HISTOGRAM),
            sample("x", 1.0, "unit", "histogram", {"Level": "Host", "ModelName": "m"}),
        ),
        ("add_error", ("e", 1), sample("e", 1.0, "unit", "counter", ERROR, ())),
    ],
)
def test_each_call_records_one_sample(call, arguments, expected):
    assert record(call, *arguments) == [expected]


def test_before_the_first_request_a_figure_belongs_to_none():
    metrics = Metrics(model_name="m")
    metrics.add_counter("loads", 1)
    metrics.add_time("load", 3, dimensions=[Dimension("Stage", "weights")])
    assert metrics.drain() == [
        sample("loads", 1.0, "Count", "counter", ERROR, ()),
        sample("load", 3.0, "Milliseconds", "gauge", {"Stage": "weights", **ERROR}, ()),
    ]


def test_dimensions_of_one_call_do_not_stick_to_the_next():
    metrics = in_batch()
    metrics.add_counter("a", 1, dimensions=[Dimension("City", "Bonn")])
    metrics.add_counter("b", 1)
    assert [one.dimensions for one in metrics.drain()] == [{"City": "Bonn", **MODEL}, MODEL]


def test_the_first_call_fixes_the_unit_and_the_names_of_the_dimensions(caplog):
    metrics = in_batch()
    metrics.add_metric("x", 1, "ms", None, [], MetricTypes.GAUGE)
    metrics.add_metric("x", 2, "s", None, [Dimension("Level", "Host")], MetricTypes.GAUGE)
    metrics.add_metric("x", 3, "s", None, [Dimension("City", "Bonn")], MetricTypes.GAUGE)
    first, second = metrics.drain()
    assert (first.unit, second.unit) == ("Milliseconds", "Milliseconds")
    assert second.dimensions == {"ModelName": "Host", "Level": "m"}  # values go by position
    assert "[METRICS]Failed to update metric with name:x and dimensions:  with value: 3" in (
        caplog.text
    )


def test_samples_are_handed_over_once():
    metrics = in_batch()
    assert metrics.drain() == []
    metrics.add_counter("a", 1)
    metrics.add_counter("b", 1)
    assert [one.name for one in metrics.drain()] == ["a", "b"]
    assert metrics.drain() == []


@pytest.mark.parametrize(
    ("call", "arguments", "error", "builtin", "says"),
    [
        ("add_time", ("t", 1, None, "min"), MetricsCacheValueError, ValueError, "one of ms, s"),
        ("add_size", ("s", 1, None, "TB"), MetricsCacheValueError, ValueError, "MB, kB, GB, B"),
        (
            "add_metric",
            ("x", 1, "ms", None, [], "summary"),
            MetricsCacheValueError,
            ValueError,
            "counter, gauge, histogram",
        ),
        ("add_metric", (3, 1, "ms"), MetricsCacheTypeError, TypeError, "name is a str, not int"),
        ("add_metric", ("x", 1, 3), MetricsCacheTypeError, TypeError, "unit is a str, not int"),
        ("add_counter", ("x", 1, None, ["a"]), MetricsCacheTypeError, TypeError, "Dimension"),
        ("add_counter", ("x", 1, None, 3), MetricsCacheTypeError, TypeError, "Dimension"),
        ("add_metric_to_cache", ("x", "ms", "a"), MetricsCacheTypeError, TypeError, "not 'a'"),
        ("get_metric", ("x",), MetricsCacheKeyError, KeyError, "There is no counter called 'x'"),
    ],
)
def test_what_no_metric_can_be_is_refused_with_an_error_of_a_known_kind(
    call, arguments, error, builtin, says
):
    with pytest.raises(error) as caught:
        record(call, *arguments)
    assert isinstance(caught.value, builtin)
    assert says in str(caught.value)
    assert not str(caught.value).startswith('"')


@pytest.mark.parametrize("value", [-1, "many", None, [1], 10**400])
def test_a_value_that_cannot_be_counted_is_logged_and_dropped(value, caplog):
    assert record("add_counter", "c", value) == []
    assert "[METRICS]Failed to update metric with name:c" in caplog.text
    assert "ModelName:m,Level:Model" in caplog.text


def test_a_gauge_may_be_negative():
    assert [s.value for s in record("add_metric", "g", -1, "C", None, (), "gauge")] == [-1.0]


def test_a_metric_that_was_declared_or_reported_can_be_fetched():
    metrics = in_batch()
    declared = metrics.add_metric_to_cache("Seen", "count", ["Kind"])
    metrics.add_time("t", 1)
    assert metrics.get_metric("Seen") is declared
    metrics.get_metric("t", MetricTypes.GAUGE).add_or_update(2, ["m", "Model"], "r1")
    assert [(one.value, one.request_ids) for one in metrics.drain()] == [
        (1.0, ("r0", "r1")),
        (2.0, ("r1",)),
    ]
    assert metrics.cache_keys() == {MetricTypes.COUNTER: ["Seen"], MetricTypes.GAUGE: ["t"]}
    assert metrics.cache[MetricTypes.COUNTER] == {"Seen": declared}
    assert metrics.add_metric_to_cache("Seen", "count") is not declared


def test_the_metrics_of_a_file_are_declared(tmp_path):
    file = tmp_path / "metrics.yaml"
    file.write_text("model_metrics: {gauge: [{name: Rows, unit: count, dimensions: [A]}]}")
    metrics = Metrics(file, model_name="m")
    metrics.initialize_cache()
    metrics.get_metric("Rows", "gauge").add_or_update(3, ["x"])
    assert metrics.drain() == [sample("Rows", 3.0, "Count", "gauge", {"A": "x"}, ())]
    with pytest.raises(MetricsCacheIOError, match="cannot be read"):
        Metrics(tmp_path / "none.yaml")


def test_without_a_file_torchserves_own_metrics_are_declared():
    metrics = Metrics()
    metrics.initialize_cache()
    assert metrics.cache_keys() == {MetricTypes.GAUGE: ["HandlerTime", "PredictionTime"]}


def test_a_deep_copy_has_requests_of_its_own_and_shares_the_samples():
    metrics = in_batch()
    declared = metrics.add_metric_to_cache("Seen", "count")
    copied = copy.deepcopy({"a": metrics, "b": metrics})
    assert copied["a"] is copied["b"]
    copied["a"].set_request_ids({0: "other"})
    copied["a"].add_counter("c", 1)
    declared.add_or_update(1)
    assert [one.request_ids for one in metrics.drain()] == [("other",), ()]
    assert metrics.request_ids == {0: "r0", 1: "r1"}
    assert copied["a"].get_metric("Seen") is declared


def test_samples_that_nobody_fetches_are_bounded_and_said_once(caplog):
    metrics = in_batch()
    with caplog.at_level(logging.WARNING):
        for _ in range(MAX_SAMPLES + 5):
            metrics.add_counter("c", 1)
    assert len(metrics.drain()) == MAX_SAMPLES
    assert caplog.text.count("further ones are dropped") == 1


def test_no_sample_of_a_thread_is_lost_while_others_drain():
    metrics = in_batch()
    thread = threading.Thread(target=lambda: [metrics.add_counter("c", 1) for _ in range(5000)])
    thread.start()
    drained = 0
    while thread.is_alive():
        drained += len(metrics.drain())
    thread.join()
    assert drained + len(metrics.drain()) == 5000


def test_a_dimension_is_printed_as_name_and_value():
    assert str(Dimension("Level", "Model")) == "Level:Model"
