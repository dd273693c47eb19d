import pytest

from marserve_handlers import metric_lines
from marserve_handlers.caching_metric import CachingMetric
from marserve_handlers.metric_values import Dimension, MetricSample, MetricTypes


def reporting(names=("Model", "Kind"), kind=MetricTypes.COUNTER):
    samples = []
    return CachingMetric("Seen", "count", names, kind, sink=samples.append), samples


def test_values_go_to_dimensions_by_position():
    metric, samples = reporting()
    metric.add_or_update(2, ["m", 3], "r0,r1")
    metric.add_or_update(1, ("m", "cat"))
    assert samples == [
        MetricSample("Seen", 2.0, "Count", "counter", {"Model": "m", "Kind": "3"}, ("r0", "r1")),
        MetricSample("Seen", 1.0, "Count", "counter", {"Model": "m", "Kind": "cat"}),
    ]


def test_an_update_brings_dimensions_of_its_own():
    metric, samples = reporting()
    metric.update(3, "id", [Dimension("City", "Bonn")])
    metric.update(4)
    assert samples == [
        MetricSample("Seen", 3.0, "Count", "counter", {"City": "Bonn"}, ("id",)),
        MetricSample("Seen", 4.0, "Count", "counter", {}),
    ]


@pytest.mark.parametrize(
    ("value", "values", "says"),
    [
        (1, ["a"], "and dimensions:  with value: 1: it has the dimensions ['Model', 'Kind']"),
        (-1, ["a", "b"], "and dimensions: Model:a,Kind:b with value: -1: a counter cannot fall."),
        (None, ["a", "b"], "with value: None: it is not a number."),
    ],
)
def test_what_cannot_be_recorded_is_logged_and_never_raised(value, values, says, caplog):
    metric, samples = reporting()
    metric.add_or_update(value, values)
    assert samples == []
    [record] = caplog.records
    message = record.getMessage()
    assert message.startswith("[METRICS]Failed to update metric with name:Seen ")
    assert says in message
    assert metric_lines.parse(message) is None


def test_a_metric_of_nobody_prints_its_values(capsys):
    metric = CachingMetric("Load", "ms", ["Stage"], MetricTypes.HISTOGRAM)
    metric.add_or_update(1.5, ["weights"], "r0")
    found = metric_lines.parse(capsys.readouterr().out)
    assert found is not None
    expected = MetricSample("Load", 1.5, "Milliseconds", "histogram", {"Stage": "weights"}, ("r0",))
    assert found.sample == expected
