import pytest

from marserve.bench.tally import MAX_KINDS, Failure, Tally, sentence


def test_a_success_counts_from_the_planned_moment():
    tally = Tally()
    tally.answered(200, b"", planned_at=10.0, sent_at=10.5, now=12.0)
    assert (tally.latencies.count, tally.latencies.mean_s, tally.failed) == (1, 2.0, 0)
    assert (tally.answers, tally.answers_s, tally.held_back_s) == (1, 2.0, 0.5)


def test_a_refusal_is_no_success_but_took_its_time():
    tally = Tally()
    tally.answered(503, b'{"message": "first"}', 0, 0, 1)
    tally.answered(503, b'{"message": "second"}', 0, 0, 2)
    assert (tally.latencies.count, tally.failed, tally.answers_s) == (0, 2, 3)
    assert tally.failures == {"503": Failure("503", 2, "first")}


def test_a_lost_connection_is_a_failure_but_no_answer():
    tally = Tally()
    tally.failure("connection broken", "reset by peer")
    assert (tally.failed, tally.answers) == (1, 0)


def test_kinds_of_failures_are_bounded_and_none_is_lost():
    tally = Tally()
    for status in range(300, 300 + 2 * MAX_KINDS):
        tally.answered(status, b"", 0, 0, 1)
    assert len(tally.failures) == MAX_KINDS + 1
    assert tally.failed == 2 * MAX_KINDS
    assert tally.failures["others"].count == MAX_KINDS


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"code": 404, "message": "Model not found: m"}', "Model not found: m"),
        (b'{"error": "no such model"}', "no such model"),
        (b'{"code": 1}', '{"code": 1}'),
        (b"[1, 2]", "[1, 2]"),
        (b"<h1>Bad\n  gateway</h1>", "<h1>Bad gateway</h1>"),
        (b"\xff", "\ufffd"),
        (b"", ""),
        (b"x" * 1000, "x" * 300),
    ],
)
def test_what_a_refusal_says_fits_on_a_line(body, expected):
    assert sentence(body) == expected
