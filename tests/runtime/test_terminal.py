import io

import click
import pytest

from marserve.terminal import SignOfLife, coloured, duration, memory, table


class Screen(io.StringIO):
    def __init__(self, is_terminal):
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self):
        return self._is_terminal


def test_columns_are_aligned_by_what_is_seen():
    rows = [("a", coloured("READY"), "1"), ("long", coloured("FAILED"), "")]
    assert click.unstyle(table(("NAME", "STATE", "N"), rows)) == (
        "NAME  STATE   N\na     READY   1\nlong  FAILED"
    )


@pytest.mark.parametrize(
    ("state", "colour"), [("READY", "green"), ("FAILED", "red"), ("STARTING", "yellow")]
)
def test_a_state_has_its_colour(state, colour):
    assert coloured(state) == click.style(state, fg=colour)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-1, "0 s"),
        (59.9, "59 s"),
        (60, "1 min 0 s"),
        (7500, "2 h 5 min"),
        (352800, "4 d 2 h"),
    ],
)
def test_durations_are_told_in_two_units(seconds, expected):
    assert duration(seconds) == expected


def test_memory_is_told_in_mebibytes():
    assert (memory(554663936), memory(0)) == ("529 MiB", "-")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_short_wait_shows_nothing(monkeypatch, is_terminal):
    monkeypatch.setattr("sys.stderr", screen := Screen(is_terminal))
    with SignOfLife("Starting") as sign:
        sign.waited(0.1)
        sign.waited(0.4)
    assert screen.getvalue() == ""


def test_a_log_gets_a_dot_per_second(monkeypatch):
    monkeypatch.setattr("sys.stderr", screen := Screen(is_terminal=False))
    with SignOfLife("Starting") as sign:
        for tenth in range(26):
            sign.waited(tenth / 10)
    assert screen.getvalue() == "Starting ...\n"


def test_a_terminal_gets_a_spinner_that_goes_away(monkeypatch):
    monkeypatch.setattr("sys.stderr", screen := Screen(is_terminal=True))
    with SignOfLife("Starting") as sign:
        sign.waited(0.6)
        sign.waited(1.7)
    assert screen.getvalue() == "\r\x1b[K⠙ Starting … 1 s\r\x1b[K⠹ Starting … 2 s\r\x1b[K"
