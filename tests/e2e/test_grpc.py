"""The gRPC ports of a real server with real workers."""

import contextlib
import subprocess

import grpc
import psutil
import pytest
from google.protobuf.empty_pb2 import Empty
from grpc_client import INFERENCE, Stub

from marserve.protocols.pb.inference_pb2 import PredictionsRequest

TIMEOUT_S = 60.0


def asked(model, body, **given):
    return PredictionsRequest(model_name=model, input={"body": body.encode()}, **given)


def channel(server):
    return grpc.insecure_channel("{}:{}".format(*server.address("grpc_inference")))


def test_a_running_call_is_answered_when_the_server_is_told_to_stop(server, tmp_path):
    server.pack("moody", "moody.py")
    server.start(load_models="moody.mar")
    gate = tmp_path / "gate"
    with channel(server) as one:
        call = Stub(one, INFERENCE).Predictions.future(asked("moody", f"wait {gate}"), TIMEOUT_S)
        server.wait_until(gate.with_name("gate.started").exists)
        server.process.terminate()
        server.wait_until(lambda: is_closed(server))
        gate.touch()
        assert call.result(TIMEOUT_S).prediction == f"wait {gate}".encode()
    assert server.wait() == 0


def is_closed(server):
    try:
        server.raw("inference").close()
    except OSError:
        return True
    return False


def test_a_call_survives_the_death_of_its_worker(server, tmp_path):
    server.pack("moody", "moody.py")
    server.start(load_models="moody.mar")
    with channel(server) as one:
        text = f"die-once {tmp_path / 'died'}"
        answer = Stub(one, INFERENCE).Predictions(asked("moody", text), TIMEOUT_S)
        assert answer.prediction == text.encode()


def test_pieces_reach_the_client_while_the_handler_goes_on(server, tmp_path):
    server.pack("streamer", "streamer.py")
    server.start(load_models="streamer.mar")
    gate = tmp_path / "gate"
    with channel(server) as one:
        call = Stub(one, INFERENCE).StreamPredictions(
            asked("streamer", f"2 wait {gate}"), TIMEOUT_S
        )
        assert [next(call).prediction, next(call).prediction] == [b"0 ", b"1 "]
        gate.touch()
        assert [message.prediction for message in call] == [b"end"]


def test_a_worker_that_dies_after_a_piece_ends_the_stream_with_an_error(server):
    server.pack("streamer", "streamer.py")
    server.start(load_models="streamer.mar")
    with channel(server) as one:
        call = Stub(one, INFERENCE).StreamPredictions(asked("streamer", "1 die"), TIMEOUT_S)
        assert next(call).prediction == b"0 "
        with pytest.raises(grpc.RpcError) as raised:
            next(call)
        assert raised.value.code() is grpc.StatusCode.INTERNAL


def test_a_server_without_grpc_opens_no_such_port(server):
    server.start(enable_grpc_api="false")
    assert set(server.addresses) == {"inference", "management", "metrics"}
    listening = {
        one.laddr.port
        for one in psutil.Process(server.process.pid).net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    }
    assert listening == {server.address(port)[1] for port in server.addresses}


def test_with_a_certificate_the_port_speaks_tls(server, tmp_path):
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(chain)),
        ],
        check=True,
        capture_output=True,
    )
    server.start(enable_grpc_ssl="true", private_key_file=key, certificate_file=chain)
    assert server.failed is None
    trust = grpc.ssl_channel_credentials(chain.read_bytes())
    _, number = server.address("grpc_inference")
    with grpc.secure_channel(f"localhost:{number}", trust) as one:
        assert "Healthy" in Stub(one, INFERENCE).Ping(Empty(), timeout=TIMEOUT_S).health
    # a stranger who cannot even say hello leaves no trace in what the server prints
    before = server.output()
    with server.raw("grpc_inference") as stranger:
        stranger.sendall(b"\x16\x03\x01\x00\xff" + bytes(300))
        stranger.settimeout(TIMEOUT_S)
        with contextlib.suppress(ConnectionResetError):
            while stranger.recv(4096):
                pass
    server.stop()
    assert server.output() == before
