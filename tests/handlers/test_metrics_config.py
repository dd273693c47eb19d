import pytest

from marserve_handlers.errors import (
    MetricsCacheIOError,
    MetricsCacheKeyError,
    MetricsCachePyYamlError,
    MetricsCacheTypeError,
)
from marserve_handlers.metric_values import MetricTypes
from marserve_handlers.metrics_config import Declaration, read_declarations


def test_a_file_declares_metrics_by_type(tmp_path):
    file = tmp_path / "metrics.yaml"
    file.write_text(
        """
        dimensions: [&model ModelName]
        ts_metrics:
          counter: [{name: Requests2XX, unit: Count, dimensions: [Level]}]
        model_metrics:
          counter:
            - {name: Seen, unit: count, dimensions: [*model, Kind]}
          histogram:
            - {name: Size, unit: MB, dimensions: []}
        """
    )
    assert read_declarations(file) == [
        Declaration("Seen", "count", ("ModelName", "Kind"), MetricTypes.COUNTER),
        Declaration("Size", "MB", (), MetricTypes.HISTOGRAM),
    ]


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("x: [", MetricsCachePyYamlError, "is not YAML"),
        ("\x00", MetricsCachePyYamlError, "is not YAML"),
        ("!!python/object/apply:os.getcwd []", MetricsCachePyYamlError, "is not YAML"),
        ("", MetricsCacheTypeError, "is a mapping, not NoneType"),
        ("[1]", MetricsCacheTypeError, "is a mapping, not list"),
        ("a: b", MetricsCacheKeyError, "has no section model_metrics"),
        ("model_metrics: 3", MetricsCacheTypeError, "model_metrics of"),
        ("model_metrics: {counter: 3}", MetricsCacheTypeError, "is a list, not int"),
        ("model_metrics: {counter: [3]}", MetricsCacheTypeError, "is a mapping, not int"),
        ("model_metrics: {counter: [{name: x}]}", MetricsCacheKeyError, "has no unit"),
        (
            "model_metrics: {counter: [{name: x, unit: ms, dimensions: A}]}",
            MetricsCacheTypeError,
            "is a list, not str",
        ),
        ("model_metrics: {foo: []}", MetricsCacheKeyError, None),
        (
            "model_metrics: {foo: [{name: x, unit: ms, dimensions: []}]}",
            MetricsCacheKeyError,
            "'foo' in",
        ),
    ],
)
def test_a_file_that_declares_nothing_sensible_is_refused_with_the_reason(
    text, error, says, tmp_path
):
    file = tmp_path / "metrics.yaml"
    file.write_text(text)
    with pytest.raises(error) as caught:
        read_declarations(file)
    assert (says or "") in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(MetricsCacheIOError, match="cannot be read"):
        read_declarations(tmp_path / "none.yaml")
