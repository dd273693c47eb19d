"""More requests than can be served: what is refused, in which words, and who is served (F23, F35).

Every refusal is asked for over HTTP and over gRPC, because both must behave alike.
"""

from __future__ import annotations

import time
from contextlib import contextmanager

import grpc
import pytest
from grpc_client import INFERENCE, Stub
from running_server import Crowd

from marserve.protocols.pb.inference_pb2 import PredictionsRequest

TIMEOUT_S = 60.0
SECRET = "a-token-for-inference"


def start(server, yaml="{}", handler="hourglass.py", **settings):
    server.root.joinpath("model-config.yaml").write_text(yaml)
    server.pack("m", handler, config_file=str(server.root / "model-config.yaml"))
    return server.start(load_models="m.mar", **settings)


class Outcome:
    """One answer, however it came."""

    def __init__(self, status, reason, retry_after_s, message):
        self.status, self.reason, self.message = status, reason, message
        self.retry_after_s = retry_after_s


def over_http(server, body=b"look", model="m", **said):
    headers = {name.replace("_", "-"): value for name, value in said.items()}
    reply = server.call("POST", "inference", f"/predictions/{model}", body, headers)
    told = reply.json() if reply.status >= 400 else {}
    again = reply.headers.get("Retry-After")
    assert reply.status < 400 or {"code", "type", "message"} <= set(told)
    return Outcome(
        reply.status, told.get("reason"), again and int(again), told.get("message", reply.body)
    )


def over_grpc(server, body=b"look", model="m", **said):
    metadata = [(name.replace("_", "-"), value) for name, value in said.items()]
    with grpc.insecure_channel("{}:{}".format(*server.address("grpc_inference"))) as channel:
        request = PredictionsRequest(model_name=model, input={"body": body})
        try:
            answer = Stub(channel, INFERENCE).Predictions(request, TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as error:
            trailing = {one.key: one.value for one in error.trailing_metadata() or ()}
            again = trailing.get("grpc-retry-pushback-ms")
            again_s = again and int(again) // 1000
            return Outcome(error.code().name, trailing.get("reason"), again_s, error.details())
        return Outcome(200, None, None, answer.prediction)


FRONTS = [over_http, over_grpc]


@contextmanager
def blocked(server, gate, waiting=(), model="m"):
    """A model whose only worker is busy, and in whose queue these wait: keyword arguments each."""
    crowd = Crowd(lambda _: over_http(server, f"wait {gate}".encode(), model), 1)
    server.wait_until(gate.with_name(gate.name + ".started").exists)
    crowds = []
    for number, (ask, said) in enumerate(waiting):
        crowds.append(Crowd(lambda _, ask=ask, said=said: ask(server, model=model, **said), 1))
        server.wait_until(lambda number=number: server.pending(model) == number + 1)
    yield crowds
    gate.touch()
    crowd.join()
    for one in crowds:
        one.join()


def test_a_full_queue_is_refused_alike_and_serves_the_urgent_first(server, tmp_path):
    """F23: in a full queue the urgent take the places of the others, who are told so."""
    start(server, job_queue_size=2)
    low = [(ask, {"x_priority": "low"}) for ask in FRONTS]
    with blocked(server, tmp_path / "gate", low) as crowds:
        http, rpc = (ask(server, x_priority="low") for ask in FRONTS)
        assert (http.status, rpc.status) == (503, "UNAVAILABLE")
        assert http.reason == rpc.reason == "queue_full"
        assert http.message.split()[0] == rpc.message.split()[0] == "Model"
        assert all(1 <= one.retry_after_s <= 30 for one in (http, rpc))

        urgent = [Crowd(lambda _, ask=ask: ask(server, x_priority="high"), 1) for ask in FRONTS]
        displaced = [crowd.join()[0] for crowd in reversed(crowds)]
        assert [one.status for one in displaced] == ["UNAVAILABLE", 503]
        assert {one.reason for one in displaced} == {"shedding"}
        assert all(1 <= one.retry_after_s <= 30 for one in displaced)
        assert server.pending("m") == 2
        assert over_http(server, x_priority="low").reason == "queue_full"
    assert [crowd.join()[0].status for crowd in urgent] == [200, 200]
    dropped = [
        v for k, v in server.metrics().items() if "requests_dropped" in k and "shedding" in k
    ]
    assert dropped == [2.0]


def test_what_comes_too_late_is_not_run_and_handlers_know_how_much_time_is_left(server, tmp_path):
    """Expired work is answered at once and never executed."""
    start(server, "responseTimeout: 50")
    log, gate = tmp_path / "log", tmp_path / "gate"
    said = [
        ({"x_request_timeout_ms": "150"}, 0.15),
        ({"x_envoy_expected_rq_timeout_ms": "150"}, 0.15),
        ({"x_request_deadline": f"{time.time() + 0.3:.6f}"}, 0.3),
    ]
    with blocked(server, gate):
        for ask in FRONTS:
            for number, (headers, _) in enumerate(said):
                late = ask(server, f"late{number} - {log}".encode(), **headers)
                assert late.status in (504, "DEADLINE_EXCEEDED"), late.message
    assert not log.exists()
    past = {"x_request_deadline": f"{time.time() - 0.5:.6f}"}
    assert [ask(server, **past).status for ask in FRONTS] == [504, "DEADLINE_EXCEEDED"]

    reply = server.predict("m", b"look", x_request_timeout_ms="5000").json()
    assert 4.0 < reply["left_s"] <= 5.0
    assert 4.0 < reply["remaining_s"] <= 5.0
    ignored = {"x_request_deadline": f"{time.time() - 60:.3f}"}
    for unlimited in ({}, ignored, {"x_request_timeout_ms": "80000"}):
        assert 45.0 < server.predict("m", b"look", **unlimited).json()["remaining_s"] <= 50.0


def test_a_deadline_that_cannot_be_met_is_refused_before_it_waits(server, tmp_path):
    start(server, handler="moody.py")
    for _ in range(6):
        assert server.predict("m", b"sleep 0.1").status == 200
    with blocked_moody(server, tmp_path / "gate"):
        began = time.monotonic()
        outcomes = [ask(server, x_request_timeout_ms="60") for ask in FRONTS]
        assert time.monotonic() - began < 0.5
        assert [one.status for one in outcomes] == [504, "DEADLINE_EXCEEDED"]
        assert outcomes[0].reason == "deadline_unreachable"
        refused = [value for name, value in server.metrics().items() if "unreachable" in name]
        assert sum(refused) >= 1.0


@contextmanager
def blocked_moody(server, gate):
    crowd = server.block("m", gate)
    yield
    gate.touch()
    crowd.join()


@pytest.mark.parametrize(
    ("settings", "status", "code", "reason"),
    [
        ({"min_available_memory": 2**50}, 507, "RESOURCE_EXHAUSTED", "memory"),
        ({"client_requests_per_second": 1}, 429, "RESOURCE_EXHAUSTED", "quota"),
    ],
)
def test_memory_and_quotas_are_refused_alike(server, settings, status, code, reason):
    start(server, **settings)
    same = {"x_client_id": "one"}
    if reason == "quota":
        assert over_http(server, **same).status == 200
    http, rpc = (ask(server, **same) for ask in FRONTS)
    assert (http.status, http.reason) == (status, reason)
    assert (rpc.status, rpc.reason) == (code, reason)
    assert all(1 <= one.retry_after_s <= 30 for one in (http, rpc))


def test_a_model_that_cannot_load_refuses_at_once_and_says_when_it_is_tried_again(server):
    """F35: nobody waits in a queue for workers that do not come."""
    start(server, "minWorkers: 1", handler="broken_initialize.py")
    server.wait_until(lambda: over_http(server).reason == "no_workers")
    began = time.monotonic()
    http, rpc = (ask(server) for ask in FRONTS)
    assert time.monotonic() - began < 1.0
    assert (http.status, rpc.status) == (503, "UNAVAILABLE")
    assert http.reason == rpc.reason == "no_workers"
    assert http.retry_after_s >= 1
    assert rpc.retry_after_s >= 1


def test_strangers_cannot_call_themselves_urgent(server, tmp_path):
    """Without a token, and not on a port of this machine alone, nobody is believed."""
    start(server, job_queue_size=1, trust_client_headers="false")
    with blocked(server, tmp_path / "gate", [(over_http, {"x_priority": "low"})]):
        assert [ask(server, x_priority="critical").reason for ask in FRONTS] == ["queue_full"] * 2


def test_malformed_terms_are_the_callers_mistake(server):
    start(server)
    for said in ({"x_priority": "urgent"}, {"x_request_deadline": "tomorrow"}):
        assert [ask(server, **said).status for ask in FRONTS] == [400, "INVALID_ARGUMENT"]
