import pytest

from marserve.bench.plan import Facts
from marserve.bench.point import Point
from marserve.bench.session import Session
from marserve.bench.tally import Failure
from marserve.client import ServerUnreachable

LATENCY_S = {"mean": 0.01, "p50": 0.01, "p90": 0.01, "p99": 0.01, "max": 0.01}
FULL = Failure("503", 7, "full")


def measured(connections, succeeded=10, *failures, is_cut=False):
    return Point(connections, None, 1.0, succeeded, LATENCY_S, failures, 0.1, None, is_cut)


class Fake:
    """Gives these points in turn; an error is raised."""

    def __init__(self, *points, cut=None):
        self.points = iter(points)
        self.cut = cut

    async def prepare(self):
        return Facts(None, False, ())

    async def measure(self, connections, on_wait):
        found = next(self.points)
        if isinstance(found, BaseException):
            raise found
        return found


def test_all_points_are_shown_and_kept(capsys):
    session = Session(Fake(measured(1), measured(2)), is_quiet=False)
    assert session.run([1, 2]) == 0
    assert [point.connections for point in session.points] == [1, 2]
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == [["1", "10.0"], ["2", "10.0"]]


def test_a_point_without_a_success_is_no_failure_of_the_whole():
    session = Session(Fake(measured(1), measured(2, 0, FULL)), is_quiet=False)
    assert session.run([1, 2]) == 0


def test_nothing_but_failures_is_one_with_its_cause(capsys):
    reset = Failure("connection broken", 1, "")
    session = Session(Fake(measured(1, 0, reset), measured(2, 0, FULL)), is_quiet=False)
    assert session.run([1, 2]) == 1
    assert capsys.readouterr().err == "marserve: no request succeeded: 503 (full).\n"


def test_an_error_in_the_middle_passes_on_after_what_was_measured(capsys):
    session = Session(Fake(measured(1, 10, FULL), ServerUnreachable("gone.")), is_quiet=False)
    with pytest.raises(ServerUnreachable):
        session.run([1, 2])
    assert "1 connection: 7 failed with 503 (full)" in capsys.readouterr().out
    assert len(session.points) == 1


def test_an_interrupt_keeps_the_window_that_was_cut(capsys):
    fake = Fake(measured(1), KeyboardInterrupt(), cut=measured(2, is_cut=True))
    session = Session(fake, is_quiet=False)
    assert session.run([1, 2]) == 130
    assert "2 connections: interrupted after 1.0 s." in capsys.readouterr().out


def test_an_interrupt_before_anything_was_measured_passes_on():
    with pytest.raises(KeyboardInterrupt):
        Session(Fake(KeyboardInterrupt()), is_quiet=False).run([1])


def test_standard_output_is_left_to_the_document(capsys):
    assert Session(Fake(measured(1)), is_quiet=True).run([1]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "ANSWERS/S" in printed.err
