"""A line that begins like a metric is one, or is told to be none."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.events import Bus, HandlerMetric
from marserve.observe.printed_metrics import PrintedMetrics, parse
from marserve.refs import ModelRef

REF = ModelRef("m", "1.0")


@pytest.mark.parametrize(
    ("line", "metric"),
    [
        (
            "[METRICS]HitsC.Count:2|#ModelName:m,Level:Model|#type:COUNTER|#hostname:box,1714550400,r1",
            HandlerMetric(
                REF, "HitsC", 2.0, "Count", "counter", {"ModelName": "m", "Level": "Model"}, ("r1",)
            ),
        ),
        (
            "[METRICS]A b.ms:-1.5e-3|#|#type:HISTOGRAM|#hostname:box,1714550400,r1,r2",
            HandlerMetric(REF, "A b", -0.0015, "ms", "histogram", {}, ("r1", "r2")),
        ),
        (
            "[METRICS]A.unit:1|#url:http://x|#type:GAUGE|#hostname:box,1714550400",
            HandlerMetric(REF, "A", 1.0, "unit", "gauge", {"url": "http://x"}),
        ),
        (
            "[METRICS]Old.Percent:1|#Level:Host|#hostname:box,1714550400",
            HandlerMetric(REF, "Old", 1.0, "Percent", "gauge", {"Level": "Host"}),
        ),
        ("[METRICS]", None),
        ("[METRICS]Failed to update metric with name:X", None),
        ("[METRICS]A.Count:many|#|#type:GAUGE|#hostname:box,1", None),
        ("[METRICS]A.Count:1.2.3|#|#type:GAUGE|#hostname:box,1", None),
        ("[METRICS]A.Count:1|#a|#type:GAUGE|#hostname:box,1", None),
        ("[METRICS]A.Count:1|#a:b|#type:SUMMARY|#hostname:box,1", None),
        ("[METRICS]Count:1|#a:b|#type:GAUGE|#hostname:box,1", None),
    ],
)
def test_a_line_is_a_figure_or_it_is_not(line, metric):
    assert parse(line, REF) == metric


@given(st.text().map(lambda text: "[METRICS]" + text))
def test_any_text_is_a_figure_or_it_is_not(line):
    assert parse(line, REF) is None or isinstance(parse(line, REF), HandlerMetric)


GOOD = "[METRICS]A.Count:1|#|#type:GAUGE|#hostname:box,1"
BAD = "[METRICS]A"


def test_figures_become_events_and_only_other_lines_are_logged(caplog):
    bus, heard = Bus(), []
    bus.subscribe(HandlerMetric, heard.append)
    printed = PrintedMetrics(bus)
    printed.attach()
    model_log = logging.getLogger("marserve.model")
    try:
        with caplog.at_level(logging.INFO):
            for line in (GOOD, "loading", BAD):
                model_log.info("%s", line, extra={"ref": REF})
            model_log.info("%s", GOOD)  # nobody's
    finally:
        printed.detach()
    model_log.info("%s", GOOD, extra={"ref": REF})
    assert heard == [HandlerMetric(REF, "A", 1.0, "Count", "gauge", {})]
    assert caplog.messages == ["loading", f'Failed to parse metrics line: "{BAD}".', GOOD]
