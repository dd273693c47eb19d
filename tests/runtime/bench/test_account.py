from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from marserve.bench.account import Account, Spent, read, spent
from marserve.observe.exposition import own_families
from marserve.observe.figures import HostFigures, RequestFigures, VersionFigures
from marserve.refs import ModelRef

AMOUNTS = st.floats(0, 1e6)


def told(requests=(), versions=()):
    """The text of a metrics port with these figures."""

    class Shown:
        def collect(self):
            return own_families(HostFigures(), requests, versions, [])

    registry = CollectorRegistry()
    registry.register(Shown())
    ProcessCollector(registry=registry)
    return generate_latest(registry).decode()


def requests(name, version, *latencies_s):
    figures = RequestFigures(name, version)
    for latency_s in latencies_s:
        figures.add(200, latency_s)
    return figures


def batch(name, version, queue_s, handler_s):
    figures = VersionFigures(ModelRef(name, version))
    for waited_s in queue_s:
        figures.queue.observe(waited_s)
    figures.batch_size.observe(len(queue_s))
    figures.handler.observe(handler_s)
    figures.linger.observe(handler_s / 5)
    return figures


REQUESTS = (
    requests("m", "default", 1.0, 2.0),
    requests("m", "2.0", 4.0),
    requests("other", "default", 9.0),
)
VERSIONS = (
    batch("m", "1.0", (0.1, 0.3), 0.5),
    batch("m", "2.0", (0.25,), 0.25),
    batch("other", "1.0", (9.0,), 9.0),
)


def test_requests_without_a_version_may_be_served_by_any():
    found = read(told(REQUESTS, VERSIONS), "m", None)
    assert found is not None
    assert (found.answers, found.latency_s) == (2, 3.0)
    assert (found.waits, found.queue_s) == (3, pytest.approx(0.65))
    assert (found.batches, found.rows, found.handler_s) == (2, 3, 0.75)
    assert found.batch_size == 1.5
    assert found.held_s == pytest.approx(0.15)
    assert found.cpu_s > 0


def test_requests_with_a_version_are_served_by_it():
    found = read(told(REQUESTS, VERSIONS), "m", "2.0")
    assert found is not None
    assert (found.answers, found.latency_s, found.waits) == (1, 4.0, 1)
    assert (found.queue_s, found.batches, found.handler_s) == (0.25, 1, 0.25)


def test_a_model_that_was_never_asked_has_zeros():
    found = read(told((), (batch("other", "1.0", (1.0,), 1.0),)), "m", None)
    assert found is not None
    assert (found.answers, found.waits, found.batches) == (0, 0, 0)


@pytest.mark.parametrize(
    "text",
    ["", "<html>", "Requests2XX{} 1.0\n", "marserve_batch_size_sum{model_name=", "\x00"],
)
def test_what_does_not_tell_is_none(text):
    assert read(text, "m", None) is None


def test_a_difference_is_what_happened_between():
    before, after = (
        Account(10, 1.0, 10, 0.5, 4, 10, 0.2, 0.25, 3.0),
        Account(30, 4.0, 31, 1.5, 9, 31, 0.7, 0.5, 4),
    )
    between = Account(20, 3.0, 21, 1.0, 5, 21, 0.5, 0.25, 1.0)
    got = after.since(before)
    for one in fields(Account):
        assert getattr(got, one.name) == pytest.approx(getattr(between, one.name))


def test_a_server_that_was_started_anew_tells_nothing_of_the_time_between():
    assert Account(answers=3).since(Account(answers=10)) == Account()


def test_the_mean_latency_is_divided():
    between = Account(
        answers=100, latency_s=1.0, waits=100, queue_s=0.2, batches=25, rows=100, handler_s=0.1
    )
    got = spent(between, mean_s=0.015, held_back_s=0.002)
    assert got is not None
    assert got.parts() == pytest.approx(
        {"connection": 0.002, "wire": 0.003, "queue": 0.002, "handler": 0.004, "batch": 0.004}
    )


def test_what_batches_were_held_back_for_company_is_told_from_the_queue():
    between = Account(
        answers=10, latency_s=1.0, waits=10, queue_s=0.5, batches=5, rows=10, held_s=0.1
    )
    got = spent(between, mean_s=0.1, held_back_s=0)
    assert got is not None
    assert got.parts() == pytest.approx(
        {"wire": 0, "queue": 0.03, "linger": 0.02, "batch": 0.05, "handler": 0}
    )


def test_a_request_in_many_batches_is_in_its_handler_each_time():
    rounds = Account(
        answers=10, latency_s=10.0, waits=10, queue_s=0, batches=50, rows=100, handler_s=2.5
    )
    got = spent(rounds, mean_s=1.0, held_back_s=0)
    assert got is not None
    assert got.handler_s == pytest.approx(0.5)


def test_who_waits_for_a_connection_is_named_only_if_somebody_does():
    assert list(Spent(0, 1, 2, 0, 3, 4).parts()) == ["wire", "queue", "batch", "handler"]


def test_a_server_that_answered_nothing_says_nothing():
    assert spent(Account(), 0.5, 0) is None


@given(st.tuples(*[AMOUNTS] * 9), AMOUNTS, st.floats(0, 1))
def test_the_parts_are_never_negative_and_add_up(totals, mean_s, held_back_share):
    got = spent(Account(*totals), mean_s, mean_s * held_back_share)
    if got is None:
        assert totals[0] == 0
        return
    parts = got.parts().values()
    assert min(parts) >= -1e-9 * mean_s
    assert sum(parts) == pytest.approx(mean_s)
