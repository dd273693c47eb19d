import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.bench.account import Spent
from marserve.bench.axis import from_zero, spread
from marserve.bench.plot import plot
from marserve.bench.point import Point, Server

SVG = "{http://www.w3.org/2000/svg}"
VALUES = st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=8)


def measured(connections, spent=None):
    latency_s = {"mean": 0.01, "p50": 0.009, "p90": 0.02, "p99": 0.05, "max": 0.1}
    return Point(connections, None, 5.0, 1000 * connections, latency_s, (), 0.2,
                 Server(1000.0, 4.0, 0.5, spent))  # fmt: skip


def drawn(points):
    root = ElementTree.fromstring(plot("a <model> & more", "5 s", points))
    words = [element.text for element in root.iter(f"{SVG}text")]
    boxes = [
        element for element in root.iter(f"{SVG}rect") if element.find(f"{SVG}title") is not None
    ]
    return root, words, boxes


@given(VALUES)
def test_every_value_lies_on_its_axis(values):
    for axis in (from_zero(values), spread(values)):
        for value in values:
            assert -1e-9 <= axis.share(value) <= 1 + 1e-9
        shares = [axis.share(tick) for tick in axis.ticks]
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0, pytest.approx(1))
        assert 2 <= len(shares) <= 20


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([], (0, 1)),
        ([0.0], (0, 1)),
        ([31_031.0], (0, 10_000, 20_000, 30_000, 40_000)),
        ([4.0], (0, 1, 2, 3, 4)),
        ([0.7], (0, 0.2, 0.4, 0.6, 0.8)),
    ],
)
def test_ticks_are_round(values, ticks):
    assert from_zero(values).ticks == pytest.approx(ticks)


def test_values_far_apart_are_told_apart_by_decades():
    axis = spread([0.3, 40.0])
    assert axis.is_log
    assert axis.ticks == (0.1, 1, 10, 100)
    assert axis.share(1.0) == pytest.approx(1 / 3)


def test_the_plot_names_what_it_shows():
    _, words, _ = drawn([measured(1), measured(16)])
    for expected in ("a <model> & more", "5 s", "Answers per second", "p50", "p99", "1", "16"):
        assert expected in words


def test_a_stack_fills_its_bar_from_the_handler_up():
    root, words, boxes = drawn([measured(4, Spent(0.0, 0.001, 0.002, 0.0, 0.003, 0.004))])
    heights = [float(box.get("height")) for box in boxes]
    assert heights == pytest.approx([94.4, 70.8, 47.2, 23.6], abs=0.2)
    tops = [float(box.get("y")) for box in boxes]
    assert tops == sorted(tops, reverse=True)
    assert "10 ms" in words
    assert "connection" not in words
    assert float(root.get("width")) == 860


def test_without_a_servers_figures_the_plot_has_one_half():
    root, words, boxes = drawn([measured(1), replace(measured(2), server=None)])
    assert "Where the time goes" not in words
    assert boxes == []
    assert float(root.get("width")) == 460
