"""Batches that adapt: to what fits into memory, and to what clients can wait for."""

import pytest

LIMIT = 'marserve_batch_limit{model_name="small",model_version="1.0"}'


def start(server, size):
    server.pack("small", "small_memory.py")
    server.start(load_models="small.mar", batch_size=size, max_batch_delay=0)


def together(server, crowd, gate, call, size):
    """The answers to `size` calls that all wait while the worker is busy."""
    first = server.block("small", gate)
    many = crowd(call, size)
    server.wait_until(lambda: server.pending("small") == size)
    gate.touch()
    assert [reply.status for reply in first.join()] == [200]
    return many.join()


def test_a_batch_too_large_for_the_memory_is_split_and_those_to_come_are_smaller(
    server, crowd, tmp_path
):
    start(server, size=8)

    answers = together(server, crowd, tmp_path / "gate", lambda _: server.predict("small"), 8)

    assert [answer.status for answer in answers] == [200] * 8
    assert server.predict("small").status == 200
    assert server.metrics()[LIMIT] == 4.0


def test_a_bad_row_is_found_without_an_error_for_any_other(server, crowd, tmp_path):
    start(server, size=4)
    bodies = (b"x", b"x", b"bad", b"x")

    answers = together(
        server, crowd, tmp_path / "gate", lambda index: server.predict("small", bodies[index]), 4
    )

    assert [answer.status for answer in answers] == [200, 200, 503, 200]
    assert server.metrics()[LIMIT] == 4.0


def test_a_client_that_waits_for_so_long_has_an_answer_by_then(server, tmp_path):
    start(server, size=1)
    gate = tmp_path / "gate"
    busy = server.block("small", gate)

    late = server.predict("small", X_Request_Timeout_Ms="50")
    gate.touch()

    assert late.status == 504
    assert b"the time that the client gave it" in late.body
    assert [reply.status for reply in busy.join()] == [200]
    assert server.predict("small", X_Request_Timeout_Ms="60000").status == 200


@pytest.fixture(scope="module")
def small(shared_server):
    start(shared_server, size=1)
    return shared_server


@pytest.mark.parametrize("value", ["soon", "0", "-5", "1.5", "99999999"])
def test_a_timeout_that_is_none_is_refused(small, value):
    reply = small.predict("small", X_Request_Timeout_Ms=value)

    assert reply.status == 400
    assert b"X-Request-Timeout-Ms" in reply.body
