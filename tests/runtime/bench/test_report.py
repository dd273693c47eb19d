import json
from dataclasses import replace

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.bench.account import Account
from marserve.bench.document import document
from marserve.bench.endpoint import Endpoint
from marserve.bench.plan import Facts, Plan, Subject
from marserve.bench.point import Window, point
from marserve.bench.report import Table, bars, cells, ms, remarks
from marserve.bench.tally import Tally

FACTS = Facts(batch_size=8, has_metrics=True, notes=())
BLIND = Facts(batch_size=None, has_metrics=False, notes=("Nobody knows.",))
BETWEEN = Account(
    answers=100, latency_s=1.0, waits=100, queue_s=0.2, batches=25, rows=100, handler_s=0.1, cpu_s=1
)


def measured(connections=16, rate=None, accounted=(BETWEEN, 2.0), failures=0, count=100, **window):
    tally = Tally()
    for _ in range(count):
        tally.answered(200, b"", 0.0, 0.0, 0.0125)
    for _ in range(failures):
        tally.answered(503, b'{"message": "full"}', 0.0, 0.0, 0.0125)
    facts = {"wall_s": 2.0, "cpu_s": 0.5, **window}
    return point(connections, rate, Window(tally, **facts), accounted)


def test_the_table_has_what_client_and_server_measured():
    table = Table(FACTS)
    assert click.unstyle("\n".join([table.head(), table.row(measured())])) == (
        "CONNECTIONS  ANSWERS/S  MEAN MS     P50     P90     P99     MAX  BATCH  FILL  SERVER CPU"
        "  CLIENT CPU  FAILED\n"
        "         16       50.0     12.5    12.5    12.5    12.5    12.5    4.0   50%         50%"
        "         25%       0"
    )


def test_without_metrics_the_table_has_no_column_for_them():
    table = Table(BLIND)
    assert click.unstyle("\n".join([table.head(), table.row(measured(accounted=None))])) == (
        "CONNECTIONS  ANSWERS/S  MEAN MS     P50     P90     P99     MAX  CLIENT CPU  FAILED\n"
        "         16       50.0     12.5    12.5    12.5    12.5    12.5         25%       0"
    )


def test_what_is_not_known_of_one_point_is_a_dash():
    row = click.unstyle(Table(FACTS).row(measured(accounted=None, count=0)))
    assert row.split() == ["16", "0.0", *"-----", *"---", "25%", "0"]


def test_the_fill_needs_the_size_of_batches():
    table = Table(replace(FACTS, batch_size=None))
    assert "FILL" not in table.head()
    assert table.row(measured()).split()[7:] == ["4.0", "50%", "25%", "0"]


def test_a_bar_shows_where_the_time_went():
    assert click.unstyle(bars([measured()])).splitlines()[1:] == [
        "             ░░ wire  ▒▒ queue  ▓▓ batch  ██ handler",
        f"         16  {'░' * 8}{'▒' * 6}{'▓' * 13}{'█' * 13}"
        "  wire 2.50  queue 2.00  batch 4.00  handler 4.00",
    ]


def test_there_are_no_bars_if_no_server_said_so():
    assert bars([measured(accounted=None), measured(accounted=(Account(), 2.0))]) == ""


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=6), st.integers(1, 200))
def test_cells_add_up_and_each_part_is_off_by_less_than_one(parts, room):
    given_cells = cells(parts, room)
    if sum(parts) > 0:
        assert sum(given_cells) == room
        for part, got in zip(parts, given_cells, strict=True):
            assert abs(part * room / sum(parts) - got) < 1 + 1e-6
    else:
        assert given_cells == [0] * len(parts)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0.00"), (0.000214, "0.21"), (0.0123, "12.3"), (0.123, "123"), (1.2346, "1,235")],
)
def test_milliseconds_have_three_digits_that_count(seconds, expected):
    assert ms(seconds) == expected


@pytest.mark.parametrize(
    ("one", "sentence"),
    [
        (measured(failures=2), "16 connections: 2 failed with 503 (full)"),
        (measured(is_cut=True), "16 connections: interrupted after 2.0 s."),
        (
            measured(count=0),
            "16 connections: nothing was answered within 2 s; give --seconds more.",
        ),
        (measured(1, cpu_s=1.9), "1 connection: the load generator used 95% of a core"),
        (measured(rate=100.0), "16 connections: 100/s were planned and 50/s answered"),
        (
            measured(accounted=(replace(BETWEEN, answers=200), 2.0)),
            "16 connections: the server answered 200 requests for this model, 100 of them from",
        ),
    ],
)
def test_what_makes_a_figure_doubtful_is_said(one, sentence):
    assert [text for text in remarks([one], FACTS) if text.startswith(sentence)] != []


def test_there_is_nothing_to_say_about_an_ordinary_point():
    assert remarks([measured(), measured(rate=50.0)], FACTS) == []


def test_why_something_is_missing_is_said():
    assert remarks([measured(accounted=None)], BLIND) == ["Nobody knows."]


def test_the_document_has_everything_and_is_json():
    subject = Subject("m", None, Endpoint.of("http://h:1"))
    made = document(subject, Plan(2.0, 1.0, 60.0), FACTS, [measured(failures=1)], {"cores": 2})
    assert json.loads(json.dumps(made)) == made
    (one,) = made["points"]
    assert (made["model"], made["batch_size"], made["machine"]) == ("m", 8, {"cores": 2})
    assert (one["per_s"], one["failed"], one["server"]["batch_fill"]) == (50.0, 1, 0.5)
    assert one["failures"] == [{"kind": "503", "count": 1, "message": "full"}]
    assert one["latency_ms"]["p99"] == pytest.approx(12.5, rel=0.001)
    assert sum(one["mean_ms"].values()) == pytest.approx(12.5)


def test_the_document_says_null_where_nothing_is_known():
    subject = Subject("m", "1.0", Endpoint.of("http://h:1"))
    made = document(subject, Plan(2.0, 1.0, 60.0), BLIND, [measured(accounted=None)], {})
    assert (made["points"][0]["server"], made["points"][0]["mean_ms"]) == (None, None)
