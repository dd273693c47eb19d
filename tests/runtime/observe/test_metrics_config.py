"""`metrics.yaml` says which metrics there are; what it cannot mean is told in a sentence."""

import contextlib
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from marserve.errors import ConfigInvalid
from marserve.observe.metric_specs import (
    HANDLER_METRICS,
    SERVER_METRICS,
    MetricSpec,
    long_unit,
)
from marserve.observe.metrics_config import MetricsConfig, Shape, default, parse, read

WHOLE = """
dimensions:
  - &model_name "ModelName"
  - &level "Level"
  - &hostname "Hostname"
ts_metrics:
  counter:
    - name: Requests2XX
      unit: Count
      dimensions: [*level, *hostname]
  gauge:
    - name: WorkerLoadTime
      unit: Milliseconds
      dimensions: [WorkerName, *level, *hostname]
model_metrics:
  gauge:
    - name: HandlerTime
      unit: ms
      dimensions: [*model_name, *level]
  histogram:
    - name: Size
      unit: MB
      dimensions: []
"""


def test_anchors_sections_and_kinds_are_read():
    assert parse(WHOLE) == MetricsConfig(
        server={
            "Requests2XX": MetricSpec("Requests2XX", "counter", "Count", ("Level", "Hostname")),
            "WorkerLoadTime": MetricSpec(
                "WorkerLoadTime", "gauge", "Milliseconds", ("WorkerName", "Level", "Hostname")
            ),
        },
        models={
            "HandlerTime": MetricSpec("HandlerTime", "gauge", "ms", ("ModelName", "Level")),
            "Size": MetricSpec("Size", "histogram", "MB", ()),
        },
        auto_detect=False,
    )


@pytest.mark.parametrize("text", ["ts_metrics:\n", "model_metrics: {gauge:}\n", "{}"])
def test_a_file_may_list_nothing(text):
    config = parse(text)
    assert (config.server, config.models) == ({}, {})


def metric(section="ts_metrics", kind="gauge", **entry):
    return yaml.safe_dump({section: {kind: [entry]}})


QUEUE = {"name": "QueueTime", "unit": "ms", "dimensions": ["L", "H"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ts_metrics:\n  - [", "not YAML in line 2"),
        ("\0", "not YAML"),
        ("a: 2024-99-99", "not YAML"),
        ("[" * 5_000, "not YAML"),
        ("just text", "must hold ts_metrics"),
        ("", "must hold ts_metrics"),
        ("frontend: {}", "'frontend' is no section"),
        ("ts_metrics: [1]", "ts_metrics must map"),
        ("ts_metrics: {summary: []}", "has 'summary'"),
        ("ts_metrics: {gauge: {a: b}}", "must be a list"),
        ("ts_metrics: {gauge: [1, 2]}", "every metric needs a name"),
        (metric(**QUEUE | {"name": 7}), "every metric needs a name"),
        (metric(**QUEUE | {"name": "a b"}), "'a b' is no name"),
        (metric(**QUEUE | {"unit": None}), "QueueTime needs a unit"),
        (metric(**QUEUE | {"dimensions": "L"}), "QueueTime needs dimensions"),
        (metric(**QUEUE | {"dimensions": ["L", 1]}), "QueueTime needs dimensions"),
        (metric(**QUEUE | {"dimensions": ["x y", "H"]}), "'x y' of QueueTime cannot"),
        (metric(**QUEUE | {"dimensions": ["__x", "H"]}), "'__x' of QueueTime cannot"),
        (metric(**QUEUE | {"dimensions": ["L", "L"]}), "dimension twice"),
        (metric(**QUEUE | {"extra": 1}), "'extra'"),
        (metric(**QUEUE | {"dimensions": ["L"]}), "1 dimensions, but it has 2: Level, Hostname"),
        (metric(kind="counter", **QUEUE), "QueueTime as counter, but it is a gauge"),
        (metric(kind="histogram", **QUEUE | {"dimensions": ["le", "H"]}), "le of QueueTime"),
        (metric("model_metrics", **QUEUE), "is a metric of the server"),
        (metric("model_metrics", **QUEUE | {"name": "marserve_x"}), "is a metric of the server"),
        (
            yaml.safe_dump({"model_metrics": {"gauge": [QUEUE | {"name": "A"}] * 2}}),
            "lists A twice",
        ),
    ],
)
def test_what_cannot_be_is_told(text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        parse(text)


@given(
    st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ("ts_metrics", "model_metrics", "gauge", "name", "unit", "dimensions")
                )
                | st.text(),
                inner,
                max_size=3,
            )
        ),
    )
)
def test_any_document_is_a_configuration_or_a_sentence(document):
    with contextlib.suppress(ValueError):
        parse(yaml.safe_dump(document))


def test_queue_times_may_be_listed_as_a_histogram():
    assert parse(metric(kind="histogram", **QUEUE)).server["QueueTime"].kind == "histogram"


def test_a_server_metric_that_nobody_measures_is_a_note():
    config = parse(metric(**QUEUE | {"name": "Foo"}))
    assert config.server == {}
    assert "Foo" in config.notes[0]


# --- the file ---


def test_no_file_means_all_metrics():
    assert read(None, None) == default() == MetricsConfig(SERVER_METRICS, HANDLER_METRICS, True)
    assert read(None, False).auto_detect is False


@pytest.mark.parametrize(("setting", "expected"), [(None, False), (False, False), (True, True)])
def test_with_a_file_metrics_are_detected_only_when_told(tmp_path, setting, expected):
    path = tmp_path / "metrics.yaml"
    path.write_text(WHOLE)
    assert read(path, setting).auto_detect is expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"\xff", "not UTF-8"),
        (b"ts_metrics: [", "not YAML"),
        (b"#" * 1_000_001, "longer than"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_a_remedy(tmp_path, content, words):
    path = tmp_path / "metrics.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigInvalid) as raised:
        read(path, None)
    assert str(path) in str(raised.value)
    assert words in str(raised.value)
    assert "leave metrics_config out" in str(raised.value)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        read(tmp_path, None)


# --- what a handler reported ---


@pytest.mark.parametrize(
    ("name", "auto_detect", "dimensions", "expected"),
    [
        ("HandlerTime", False, {"a": "x", "b": "y"},
         Shape("gauge", "ms", {"ModelName": "x", "Level": "y"})),
        ("HandlerTime", True, {"a": "x"}, "wrong_dimensions"),
        ("Other", False, {}, "not_listed"),
        ("Other", True, {"a": "x"}, Shape("counter", "Megabytes", {"a": "x"})),
    ],
)  # fmt: skip
def test_a_figure_is_shown_as_listed_or_as_reported(name, auto_detect, dimensions, expected):
    assert parse(WHOLE, auto_detect).shape(name, "counter", "MB", dimensions) == expected


@pytest.mark.parametrize(
    ("unit", "long"),
    [("ms", "Milliseconds"), ("B", "Bytes"), ("", "unit"), ("weird unit", "weird unit")],
)
def test_units_are_spelled_as_torchserve_does(unit, long):
    assert long_unit(unit) == long
