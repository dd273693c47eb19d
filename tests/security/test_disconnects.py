"""F11, F43: clients that go away harm nobody, and a stream that breaks off looks broken.
`benchmarks/reliability/disconnects.py` has 50,000 of them go."""

import asyncio

import grpc
import psutil
import pytest
from disconnecting import PHASES, Prey, leave
from grpc_client import INFERENCE, Stub
from running_server import Crowd, Server, end

from marserve.protocols.pb.inference_pb2 import PredictionsRequest

COUNT = 60
TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    one = Server(tmp_path_factory.mktemp("disconnects"))
    one.pack("echo", "echo.py")
    one.pack("streams", "streamer.py")
    one.start(load_models="echo.mar,streams.mar", batch_size=4)
    yield one
    end(one)


def restarts(server):
    samples = server.metrics()
    return sum(value for name, value in samples.items() if "worker_restarts_total" in name)


def descriptors(server):
    return psutil.Process(server.process.pid).num_fds()


def asked(body):
    head = b"POST /predictions/streams HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def message(body):
    return PredictionsRequest(model_name="streams", input={"body": body})


def received(connection, until):
    """What comes until these bytes are there, or to the end."""
    got = b""
    while until is None or until not in got:
        piece = connection.recv(65536)
        if not piece:
            return got
        got += piece
    return got


def test_clients_that_go_away_in_any_phase_leave_nothing_behind(server):
    prey = Prey(
        server.address("inference"),
        server.address("grpc_inference"),
        lambda number: b"%d" % number,
    )
    asyncio.run(leave(prey, len(PHASES), 4, seed=1))  # what is made once is there afterwards
    server.wait_until(lambda: server.predict("echo").status == 200)
    before, pids = descriptors(server), server.pids("echo") + server.pids("streams")

    left = asyncio.run(leave(prey, COUNT, 12, seed=2))

    assert left == dict.fromkeys(PHASES, COUNT // len(PHASES))
    server.wait_until(lambda: server.pending("echo") + server.pending("streams") == 0)
    server.wait_until(lambda: descriptors(server) <= before)
    assert server.predict("echo", b"still").json()["body"] == "still"
    assert server.pids("echo") + server.pids("streams") == pids
    assert restarts(server) == 0


def test_streams_of_both_protocols_in_one_batch_get_their_pieces(server, tmp_path):
    """They are run apart, for one of them might ask for explanations."""
    gate = tmp_path / "gate"
    pids = server.pids("streams")
    with (
        server.raw() as blocker,
        grpc.insecure_channel("{}:{}".format(*server.address("grpc_inference"))) as channel,
    ):
        blocker.sendall(asked(f"1 wait {gate}".encode()))
        received(blocker, b"\r\n0 \r\n")  # the only worker is busy with it
        call = Stub(channel, INFERENCE).StreamPredictions(message(b"2"), TIMEOUT_S)
        http = Crowd(lambda _: server.predict("streams", b"2"), 2)
        server.wait_until(lambda: server.pending("streams") == 3)
        gate.touch()
        pieces = [one.prediction for one in call]
        bodies = [reply.body for reply in http.join()]

    assert pieces == [b"0 ", b"1 ", b"end"]
    assert bodies == [b"0 1 end"] * 2
    assert server.pids("streams") == pids


def test_a_stream_that_is_cut_after_its_first_piece_looks_cut(server):
    """F43: HTTP has no last chunk, gRPC a status."""
    for body in (b"2 raise", b"2 die"):
        with server.raw() as connection:
            connection.sendall(asked(body))
            got = received(connection, None)
        assert got.startswith(b"HTTP/1.1 200 ")
        assert b"\r\n0 \r\n" in got
        assert not got.endswith(b"0\r\n\r\n")
    with grpc.insecure_channel("{}:{}".format(*server.address("grpc_inference"))) as channel:
        call = Stub(channel, INFERENCE).StreamPredictions(message(b"2 raise"), TIMEOUT_S)
        with pytest.raises(grpc.RpcError) as raised:
            list(call)
    assert raised.value.code() is not grpc.StatusCode.OK
