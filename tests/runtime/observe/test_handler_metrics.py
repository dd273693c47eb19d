"""What handlers report is kept within bounds, and what is not kept is counted."""

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from marserve.events import HandlerMetric
from marserve.observe import handler_metrics, metrics_config
from marserve.observe.handler_metrics import MAX_LINES_PER_MODEL, HandlerMetrics
from marserve.refs import ModelRef

REF = ModelRef("m", "1.0")
NEXT = ModelRef("m", "2.0")
OTHER = ModelRef("other", "1.0")
DROPPED = "marserve_handler_metrics_dropped_total"


class Watched:
    def __init__(self, config=None):
        config = config or replace(metrics_config.default(), models={})
        self.metrics = HandlerMetrics("box", config)
        self.registry = CollectorRegistry()
        self.registry.register(self.metrics)

    def report(self, name="Size", value=1.0, kind="gauge", ref=REF, unit="MB", **dimensions):
        self.metrics.take(HandlerMetric(ref, name, value, unit, kind, dimensions))

    def families(self):
        text = generate_latest(self.registry).decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    def samples(self):
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families().values()
            for sample in family.samples
        }

    def value(self, name, **labels):
        return self.registry.get_sample_value(name, {"Hostname": "box", **labels})

    def dropped(self, reason, model="m"):
        labels = {"model_name": model, "reason": reason}
        return self.registry.get_sample_value(DROPPED, labels)


@pytest.fixture
def watched():
    return Watched()


def test_a_gauge_shows_its_last_value(watched):
    watched.report(value=3.0, Level="Model")
    watched.report(value=2.0, Level="Model")
    assert watched.value("Size", Level="Model") == 2.0
    assert watched.families()["Size"].type == "gauge"


def test_a_counter_adds_up_under_its_very_name(watched):
    watched.report("Hits", 2.0, "counter")
    watched.report("Hits", 3.0, "counter")
    watched.report("Misses_total", 1.0, "counter")
    families = watched.families()
    assert watched.value("Hits") == 5.0
    assert watched.value("Misses_total") == 1.0
    assert families["Hits"].type == "counter"
    assert families["Misses"].type == "counter"


def test_a_histogram_has_torchserves_buckets(watched):
    watched.report("Time", 0.3, "histogram", ModelName="m")
    assert watched.value("Time_bucket", ModelName="m", le="0.25") == 0
    assert watched.value("Time_bucket", ModelName="m", le="0.5") == 1
    assert watched.value("Time_count", ModelName="m") == 1
    assert watched.value("Time_sum", ModelName="m") == 0.3
    assert watched.families()["Time"].type == "histogram"


def test_label_sets_are_series_of_their_own(watched):
    watched.report(value=1.0, stage="a")
    watched.report(value=2.0, stage="b")
    assert (watched.value("Size", stage="a"), watched.value("Size", stage="b")) == (1.0, 2.0)


def test_names_are_made_legal(watched):
    watched.report("my metric-1", 4.0, **{"a-b": "x\udc80\n\"'", "le": "7", "__x": "y"})
    assert watched.value("my_metric_1", a_b="x\\udc80\n\"'", le_="7", _x="y") == 4.0


def test_the_first_kind_of_a_name_stays(watched):
    watched.report("Size", 1.0, "gauge")
    watched.report("Size", 9.0, "counter")
    watched.report("Size", 9.0, "histogram", ref=OTHER)
    assert watched.value("Size") == 1.0
    assert watched.dropped("conflict") == 1
    assert watched.dropped("conflict", "other") == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("h", "histogram"), ("h_count", "gauge")),
        (("h_sum", "gauge"), ("h", "histogram")),
    ],
)
def test_two_metrics_never_print_the_same_name(watched, first, second):
    for name, kind in (first, second):
        watched.report(name, 1.0, kind)
    assert watched.dropped("conflict") == 1
    names = [sample for sample, _ in watched.samples()]
    assert len(set(watched.families())) == 2
    assert first[0] in {name.removesuffix("_bucket") for name in names}


def test_a_counter_and_a_gauge_may_differ_by_total_alone(watched):
    watched.report("c", 1.0, "gauge")
    watched.report("c_total", 2.0, "counter")
    assert (watched.value("c"), watched.value("c_total")) == (1.0, 2.0)


LISTED = """
model_metrics:
  gauge:
    - {name: Size, unit: Things, dimensions: [Phase, Model, Lev]}
  histogram:
    - {name: Time, unit: ms, dimensions: [ModelName]}
  counter:
    - {name: Hits_total, unit: Count, dimensions: [ModelName]}
"""


def test_a_listed_metric_has_the_listed_kind_unit_and_labels_by_position():
    watched = Watched(metrics_config.parse(LISTED))
    watched.report("Size", 4.0, "counter", stage="a", ModelName="m", Level="Model")
    watched.report("Time", 0.3, "gauge", ModelName="m")
    text = generate_latest(watched.registry).decode()
    assert "# HELP Size Torchserve prometheus gauge metric with unit: Things\n" in text
    assert watched.value("Size", Phase="a", Model="m", Lev="Model") == 4.0
    assert watched.value("Time_bucket", ModelName="m", le="0.5") == 1
    assert "# TYPE Hits_total counter\n" in text  # told before there is a sample


def test_what_is_not_listed_is_dropped_unless_it_is_detected():
    strict = Watched(metrics_config.parse(LISTED))
    strict.report("Other", 1.0)
    assert (strict.value("Other"), strict.dropped("not_listed")) == (None, 1)
    easy = Watched(metrics_config.parse(LISTED, auto_detect=True))
    easy.report("Other", 1.0)
    assert easy.value("Other") == 1.0
    text = generate_latest(easy.registry).decode()
    assert "# HELP Other Torchserve prometheus gauge metric with unit: Megabytes\n" in text


def test_a_listed_metric_with_other_dimensions_is_dropped():
    watched = Watched(metrics_config.parse(LISTED))
    watched.report("Size", 1.0, ModelName="m", Level="Model")
    assert watched.dropped("wrong_dimensions") == 1
    assert watched.families()["Size"].samples == []


def test_the_servers_own_names_are_taken(watched):
    watched.report("marserve_requests_total", 1e9, "counter")
    assert watched.dropped("conflict") == 1
    assert watched.value("marserve_requests_total") is None


@pytest.mark.parametrize(
    ("value", "kind", "reason"),
    [
        (float("nan"), "gauge", "bad_value"),
        (float("inf"), "histogram", "bad_value"),
        (-1.0, "counter", "bad_value"),
        (1.0, "summary", "unknown_kind"),
    ],
)
def test_what_makes_no_sense_is_dropped_and_counted(watched, value, kind, reason):
    watched.report(value=value, kind=kind)
    assert watched.dropped(reason) == 1


def test_a_model_has_so_many_series_and_no_more(watched):
    for number in range(MAX_LINES_PER_MODEL + 50):
        watched.report(value=number, request=str(number))
    watched.report("Another", 1.0, "gauge")
    watched.report("Time", 1.0, "histogram")
    watched.report(ref=OTHER, request="mine")
    assert watched.dropped("too_many_series") == 52
    assert len(watched.families()["Size"].samples) == MAX_LINES_PER_MODEL + 1
    assert set(watched.families()) == {"Size", DROPPED.removesuffix("_total")}
    watched.report(value=-5.0, request="7")
    assert watched.value("Size", request="7") == -5.0


def test_all_models_together_have_a_bound_too(watched, monkeypatch):
    monkeypatch.setattr(handler_metrics, "MAX_LINES", 10)
    for number in range(12):
        watched.report(ref=ModelRef(f"m{number}", "1"), number=str(number))
    assert len(watched.families()["Size"].samples) == 10
    assert watched.dropped("too_many_series", "m11") == 1


def test_histograms_use_as_much_room_as_they_print(watched):
    for number in range(100):
        watched.report("Time", 1.0, "histogram", n=str(number))
    samples = len(watched.families()["Time"].samples)
    assert MAX_LINES_PER_MODEL - 17 <= samples <= MAX_LINES_PER_MODEL


@pytest.mark.parametrize("is_last", [True, False])
def test_a_version_that_goes_takes_its_series_and_makes_room(watched, is_last):
    for number in range(MAX_LINES_PER_MODEL):
        watched.report(request=str(number))
    watched.metrics.forget(REF, is_last)
    assert watched.samples() == {}
    for number in range(MAX_LINES_PER_MODEL):
        watched.report("Size", 1.0, "counter", ref=NEXT, request=str(number))
    assert len(watched.families()["Size"].samples) == MAX_LINES_PER_MODEL
    watched.report("Size", 1.0, "counter", ref=NEXT, request="one more")
    assert watched.dropped("too_many_series") == 1


def test_what_was_dropped_is_forgotten_with_the_last_version(watched):
    watched.report(kind="summary")
    watched.metrics.forget(REF, is_last_version=False)
    assert watched.dropped("unknown_kind") == 1
    watched.metrics.forget(NEXT, is_last_version=True)
    assert watched.dropped("unknown_kind") is None


def test_series_that_two_versions_share_live_as_long_as_one_of_them(watched):
    watched.report(value=1.0, ModelName="m")
    watched.report(value=2.0, ModelName="m", ref=NEXT)
    watched.report(value=3.0, ModelName="m", stage="old")
    watched.metrics.forget(REF, is_last_version=False)
    assert watched.value("Size", ModelName="m") == 2.0
    assert watched.value("Size", ModelName="m", stage="old") is None
    watched.metrics.forget(NEXT, is_last_version=True)
    assert watched.samples() == {}
