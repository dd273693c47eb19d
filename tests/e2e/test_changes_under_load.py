"""F19, F20, F21: versions are switched, models come and go, workers too, and no request suffers."""

import asyncio
import itertools
import random

import pytest
from chaos.callers import OK
from chaos.changes import ask_meanwhile, cycles, held, left_over, quarrel, scalings
from chaos.switches import prepare, switch_under_load


@pytest.fixture(scope="module")
def busy(shared_server):
    shared_server.pack("guest", "echo.py")
    prepare(shared_server)
    return shared_server


def test_a_version_is_switched_under_load_without_a_failure_and_without_a_stale_answer(busy):
    found = asyncio.run(
        switch_under_load(
            busy, lambda writer: itertools.chain(writer.defaults(10), writer.replacements(2))
        )
    )

    assert found.failures == []
    assert set(found.books.counts) == {OK}, found.books
    assert len(found.writes) == 13
    assert len(found.books.answers) > 20
    assert found.stale() == []


def test_a_model_that_comes_and_goes_under_load_fails_nobody_and_leaves_nothing(busy):
    busy.manage("POST", "/models?url=guest.mar&initial_workers=1")  # what stays is made once
    busy.manage("DELETE", "/models/guest")
    before = held(busy)

    def work(tally):
        cycles(busy, "guest.mar", "guest", 3, tally)

    tally = ask_meanwhile(busy, "guest", work)

    assert tally.changes == {200: 6}
    assert tally.server_errors() == {}, tally.words
    assert set(tally.requests) == {200, 404}
    busy.wait_until(lambda: not left_over(busy, before), 10.0)


def test_workers_that_become_more_and_fewer_lose_no_request_that_runs(busy):
    """Without workers a model refuses at once, and tells those that wait for one; others serve."""

    def work(tally):
        scalings(busy, "m", 8, 3, random.Random(5), tally)
        tally.changes[busy.manage("PUT", "/models/m?min_worker=1&synchronous=true").status] += 1

    tally = ask_meanwhile(busy, "m", work)

    assert set(tally.changes) <= {200, 202}, tally.words
    assert set(tally.requests) <= {200, 503}, tally.words
    assert tally.requests[200] > 10
    if tally.requests[503]:
        assert b"has no worker to serve inference request" in tally.words[503]


def test_operators_that_quarrel_over_a_model_leave_it_registered_or_not(busy):
    def work(tally):
        quarrel(busy, "guest.mar", "guest", 6, 4, tally)

    tally = ask_meanwhile(busy, "m", work)

    assert set(tally.changes) <= {200, 404, 409}, tally.words
    assert set(tally.requests) == {200}, tally.words
    is_there = busy.manage("GET", "/models/guest").status == 200
    assert busy.manage("DELETE", "/models/guest").status == (200 if is_there else 404)
    assert busy.call("GET", "inference", "/healthz/ready").status == 200
