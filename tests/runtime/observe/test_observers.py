"""The mode decides what the endpoint shows and what is logged."""

import logging
from types import SimpleNamespace

import pytest
from prometheus_client import generate_latest
from tests.harness.answers import told

from marserve.errors import ConfigInvalid
from marserve.events import BatchAnswered, Bus
from marserve.observe.logs import configure
from marserve.observe.observers import Observers
from marserve.refs import ModelRef

ANSWERED = told("m", None, 200, 0.01, "POST", "/predictions/m", "127.0.0.1:1")
BATCH = BatchAnswered(ModelRef("m", "1.0"), 1, (0.001,), 0.002, 0.003)


def config(**settings):
    """As much of a configuration as observers look at."""
    values = {
        "metrics_config": None,
        "model_metrics_auto_detect": None,
        "metrics_mode": "prometheus",
        "metric_time_interval_s": 60,
        "disable_system_metrics": True,
        "access_log": True,
    }
    return SimpleNamespace(**(values | settings))


def observed(folder, **settings):
    """The text of the endpoint, and the names in the two metrics logs."""
    logs = configure(folder, foreground=False)
    bus = Bus()
    try:
        observers = Observers(bus, config(**settings), logs, "box")
        bus.publish(ANSWERED)
        bus.publish(BATCH)
        observers.close()
    finally:
        logs.close()
    text = generate_latest(observers.registry).decode()
    return text, names(folder / "ts_metrics.log"), names(folder / "model_metrics.log")


def names(path):
    return {line.split(" - ")[1].partition(".")[0] for line in path.read_text().splitlines()}


THREE = {
    "ts_inference_requests_total",
    "ts_inference_latency_microseconds",
    "ts_queue_latency_microseconds",
}
OTHERS = {"Requests2XX", "QueueTime", "WorkerThreadTime"}


def test_prometheus_shows_everything_and_logs_nothing(tmp_path):
    text, server, model = observed(tmp_path, disable_system_metrics=False)
    for name in (*THREE, *OTHERS, "MemoryUsed", "marserve_requests_total", "PredictionTime"):
        assert f"# TYPE {name} " in text
    assert (server, model) == (set(), set())


def test_log_shows_nothing_and_logs_everything(tmp_path):
    text, server, model = observed(tmp_path, metrics_mode="log", disable_system_metrics=False)
    assert text == ""
    assert THREE | OTHERS | {"MemoryUsed", "DiskUsage"} <= server
    assert model == {"PredictionTime"}


def test_legacy_shows_three_and_logs_the_others(tmp_path):
    text, server, model = observed(tmp_path, metrics_mode="legacy")
    assert {line.split()[2] for line in text.splitlines() if line[0] == "#"} == THREE
    assert server == OTHERS
    assert model == {"PredictionTime"}


def test_answers_are_in_the_access_log_in_every_mode(tmp_path):
    for mode in ("prometheus", "log", "legacy"):
        observed(tmp_path / mode, metrics_mode=mode)
        lines = (tmp_path / mode / "access_log.log").read_text().splitlines()
        assert len(lines) == 1


def test_metrics_yaml_is_followed_and_what_it_cannot_mean_is_warned_of(tmp_path, caplog):
    path = tmp_path / "metrics.yaml"
    path.write_text("ts_metrics: {gauge: [{name: Foo, unit: a, dimensions: []}]}")
    with caplog.at_level(logging.WARNING):
        text, *_ = observed(tmp_path, metrics_config=path)
    assert "Requests2XX" not in text
    assert "marserve_requests_total" in text
    assert "Foo" in caplog.text


def test_a_file_that_cannot_be_used_stops_the_start(tmp_path):
    logs = configure(tmp_path, foreground=False)
    try:
        with pytest.raises(ConfigInvalid, match="does not exist"):
            Observers(Bus(), config(metrics_config=tmp_path / "absent"), logs, "box")
    finally:
        logs.close()


def test_the_access_log_can_be_off_and_the_metrics_count_all_the_same(tmp_path):
    text, _, _ = observed(tmp_path, access_log=False)
    assert (tmp_path / "access_log.log").read_text() == ""
    assert 'marserve_requests_total{code="200"' in text
