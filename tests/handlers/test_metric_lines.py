import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve_handlers.metric_lines import (
    MARK,
    MAX_LINE_CHARS,
    MetricLine,
    is_metric_line,
    parse,
    write,
)
from marserve_handlers.metric_values import Dimension, MetricSample, MetricTypes


def line(name, value, unit, kind, dimensions, requests=(), host="box", time=1714550400.0):
    return MetricLine(MetricSample(name, value, unit, kind, dimensions, requests), host, time)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "T.Milliseconds:1.5|#ModelName:m,Level:Model|#type:GAUGE|#hostname:box,1714550400,r0,r1",
            line(
                "T",
                1.5,
                "Milliseconds",
                "gauge",
                {"ModelName": "m", "Level": "Model"},
                ("r0", "r1"),
            ),
        ),
        ("T.ms:1|#|#type:COUNTER|#hostname:box,1714550400", line("T", 1.0, "ms", "counter", {})),
        (
            "T.ms:-1.5e-3|#A:b|#type:histogram|#hostname:box,1714550400,",
            line("T", -0.0015, "ms", "histogram", {"A": "b"}),
        ),
        ("T.ms:1|#A:b:c|#hostname:box,1714550400", line("T", 1.0, "ms", "gauge", {"A": "b:c"})),
        ("T.Count:1|#A:|#hostname:box,1714550400", line("T", 1.0, "Count", "counter", {"A": ""})),
        (
            "My time.my unit:1|#A:b|#type:GAUGE|#hostname:box,1714550400\r\n",
            line("My time", 1.0, "my unit", "gauge", {"A": "b"}),
        ),
    ],
)
def test_a_line_that_is_a_metric_is_read(text, expected):
    assert is_metric_line(MARK + text)
    assert parse(MARK + text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "T.ms:1|#A:b|#type:GAUGE|#hostname:box,1714550400",
        "  [METRICS]T.ms:1|#A:b|#type:GAUGE|#hostname:box,1714550400",
        "[METRICS]Failed to update metric with name:c2 and dimensions: A:b with value: -1: no",
        "[METRICS]Da-sh.ms:1|#A:b|#type:GAUGE|#hostname:box,1714550400",
        "[METRICS]T.ms:1,500|#A:b|#type:GAUGE|#hostname:box,1714550400",
        "[METRICS]T.ms:nan|#A:b|#type:GAUGE|#hostname:box,1714550400",
        "[METRICS]T.ms:1|#A:b|#type:SUMMARY|#hostname:box,1714550400",
        "[METRICS]T.ms:1|#A|#type:GAUGE|#hostname:box,1714550400",
        "[METRICS]T.ms:1|#A:b|#type:GAUGE|#hostname:,1714550400",
        "[METRICS]T.ms:1|#A:b|#type:GAUGE|#hostname:box,1.2.3",
        "[METRICS]T.ms:1|#A:b|#type:GAUGE",
        "[METRICS]T.ms:-e|#A:b|#type:GAUGE|#hostname:box,1714550400",
        "[METRICS]" + "T" * MAX_LINE_CHARS + ".ms:1|#|#type:GAUGE|#hostname:box,1",
        "[METRICS]",
        "",
    ],
)
def test_a_line_that_is_none_is_nothing(text):
    assert parse(text) is None


@given(st.text(max_size=60), st.text(alphabet="[]METRICS.:|#,ab1 -e", max_size=60))
def test_no_line_can_harm_the_reader(text, likely):
    for one in (text, likely, MARK + text, MARK + likely):
        found = parse(one)
        assert found is None or found.sample.name


names = st.text(alphabet="abcXYZ_019", min_size=1, max_size=8)


@given(
    names,
    names,
    st.floats(allow_nan=False, allow_infinity=False),
    st.dictionaries(names, names, max_size=3),
    st.lists(names, max_size=3),
    st.sampled_from(MetricTypes),
)
def test_what_is_written_can_be_read(name, unit, value, labels, requests, kind):
    dimensions = [Dimension(*pair) for pair in labels.items()]
    text = write(name, unit, value, dimensions, "box", 1714550400, ",".join(requests), kind)
    expected = line(name, value, unit, kind.value, labels, tuple(requests))
    assert parse(MARK + text) == expected
