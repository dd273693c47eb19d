"""What becomes of a request whose worker died: a table."""

import pytest

from marserve.batching.retry import Fate, Loss, fate
from marserve.request import Job, Request

CRASH = Loss("crash", is_self_inflicted=True)
KILL = Loss("kill", is_self_inflicted=False)


def job(attempts=1, deaths_alone=0, streamed=False, known=False, headers=()):
    made = Job(Request("r", list(headers), []), 0.0)
    made.attempts, made.deaths_alone = attempts, deaths_alone
    made.has_streamed, made.is_known_poison = streamed, known
    return made


@pytest.mark.parametrize(
    ("lost", "loss", "was_alone", "what"),
    [
        # killed from outside: once more as it was, then alone
        (job(1), KILL, False, Fate.TOGETHER),
        (job(1, 1), KILL, True, Fate.TOGETHER),
        (job(2), KILL, False, Fate.ALONE),
        # both workers killed at once: two deaths alone, and neither says anything
        (job(2, 2), KILL, True, Fate.ALONE),
        (job(3, 2), KILL, True, Fate.GUILTY),
        # a crash: alone at once, and guilty after two deaths alone
        (job(1), CRASH, False, Fate.ALONE),
        (job(1, 1), CRASH, True, Fate.ALONE),
        (job(2, 1), CRASH, True, Fate.ALONE),
        (job(2, 2), CRASH, True, Fate.GUILTY),
        (job(3, 2), CRASH, True, Fate.GUILTY),
        # never a fourth time
        (job(3, 1), CRASH, True, Fate.GUILTY),
        (job(3, 1), KILL, True, Fate.GIVEN_UP),
        (job(3), CRASH, False, Fate.GIVEN_UP),
        # a repeat of what was found guilty needs no second death, but a stray kill is none
        (job(1, 1, known=True), CRASH, True, Fate.GUILTY),
        (job(1, 1, known=True), KILL, True, Fate.TOGETHER),
        # what must not be repeated
        (job(1, streamed=True), KILL, False, Fate.GIVEN_UP),
        (job(1, headers=[("X-No-Retry", "1")]), KILL, False, Fate.GIVEN_UP),
        (job(1, headers=[("x-no-retry", "true")]), KILL, False, Fate.TOGETHER),
    ],
)
def test_the_fate_of_a_request(lost, loss, was_alone, what):
    assert fate(lost, loss, was_alone, is_idempotent=True) is what


def test_a_model_that_is_not_idempotent_repeats_nothing():
    assert fate(job(1), KILL, False, is_idempotent=False) is Fate.GIVEN_UP
