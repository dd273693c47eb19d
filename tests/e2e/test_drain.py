"""F13, I12: a server that is told to stop loses nothing it has accepted, and says how it is."""

import asyncio
import signal
import time

import pytest
from chaos.callers import CUT, NOT_ACCEPTED, OK, PARTED, RESET, WRONG
from chaos.drain import Load, drain


@pytest.fixture
def echo(server):
    server.pack("echo", "moody.py")
    return server


def test_a_stop_under_load_resets_nobody_and_answers_all_it_has_accepted(echo):
    load = Load(fresh=12, kept=6, calls=2, idle=3, half=2, work_s=0.005)
    echo.start(load_models="echo.mar")

    stopped = asyncio.run(drain(echo, load, after_s=0.2))

    counts = stopped.books.counts
    assert not {RESET, CUT, WRONG, PARTED} & set(counts), stopped.books
    assert stopped.exit_code == 0
    assert stopped.took_s < 20.0
    assert counts[OK] > 20
    assert counts[NOT_ACCEPTED] >= load.fresh  # so it was stopped while they asked
    for got in stopped.halves:
        assert got.startswith(b"HTTP/1.1 200 ")
        assert got.endswith(b"half whole")


def test_readiness_is_false_at_once_while_the_port_still_accepts(echo):
    """With `pre_drain`, as behind a load balancer."""
    echo.start(load_models="echo.mar", pre_drain=1)

    stopped = asyncio.run(
        drain(echo, Load(fresh=2, kept=2, calls=1), after_s=0.1, asks_readiness=True)
    )

    assert stopped.unready_after_s is not None
    assert stopped.unready_after_s < 0.1
    assert not {RESET, CUT, WRONG, PARTED} & set(stopped.books.counts), stopped.books
    last_s = max(sent_s for sent_s, _ in stopped.books.latencies_s)
    first_s = min(sent_s for sent_s, _ in stopped.books.latencies_s)
    assert last_s - first_s > 1.0  # served for all of pre_drain
    assert stopped.took_s > 1.0


def test_ping_and_readiness_and_grpc_health_all_say_that_the_server_stops(echo):
    import grpc
    from grpc_client import INFERENCE, Stub

    from marserve.protocols.pb import inference_pb2  # noqa: F401  makes the description known
    from marserve.servers.grpc_health import HEALTH
    from marserve.succession import SuccessionFailed, predecessor

    echo.start(load_models="echo.mar", pre_drain=20)
    kept = echo.connect()
    with grpc.insecure_channel(echo.addresses["grpc_inference"].removeprefix("grpc://")) as channel:
        health = Stub(channel, HEALTH)
        ask = HEALTH.methods_by_name["Check"].input_type._concrete_class
        services = ["", INFERENCE.full_name]
        assert [health.Check(ask(service=one)).status for one in services] == [1, 1]
        echo.process.send_signal(signal.SIGTERM)
        echo.wait_until(lambda: echo.call("GET", "inference", "/healthz/ready").status == 503)
        answer = echo.call("GET", "inference", "/healthz/ready").json()
        assert answer == {"status": "not ready", "reason": "The server is being stopped."}
        assert echo.call("GET", "inference", "/ping").status == 500
        assert [health.Check(ask(service=one)).status for one in services] == [2, 2]
        assert echo.predict("echo").status == 200
        with pytest.raises(SuccessionFailed), predecessor(echo.root / "logs", 1.0):
            pytest.fail("it handed over")  # nobody takes over what is to end
    kept.close()
    assert echo.stop() == 1  # the second signal means now


def test_what_is_not_done_in_time_is_told_to_come_back_and_the_end_does_not_wait(echo, tmp_path):
    echo.start(load_models="echo.mar", drain_timeout=1)
    gate = tmp_path / "gate"
    running = echo.block("echo", gate)
    waiting = echo.call
    from running_server import Crowd

    queued = Crowd(lambda _: waiting("POST", "inference", "/predictions/echo", b"x"), 2)
    echo.wait_until(lambda: echo.pending("echo") == 2)

    began = time.monotonic()
    code = echo.stop()
    took_s = time.monotonic() - began

    replies = [*running.join(), *queued.join()]
    assert [reply.status for reply in replies] == [503, 503, 503]
    assert all(reply.headers.get("Retry-After") for reply in replies)
    assert (code, took_s < 1 + 1 + 0.5) == (0, True), took_s
