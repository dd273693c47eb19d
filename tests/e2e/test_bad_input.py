"""What should not work does not, says why, and harms nothing."""

from __future__ import annotations

import json
import socket
import zipfile
from pathlib import Path

import pytest

AS_IT_STANDS = """\
inference_address=http://0.0.0.0:8080
management_address=http://127.0.0.1:8081
metrics_address=http://0.0.0.0:8082
number_of_netty_threads=32
job_queue_size=1000
max_request_size=104857600 # 100MB
max_response_size=104857600
default_workers_per_model=4
batch_size=8
max_batch_delay=100 # milliseconds
log_dir=/var/log/marserve
metrics_format=prometheus
"""


@pytest.fixture(scope="module")
def server(shared_server):
    shared_server.pack("echo", "echo.py")
    shared_server.start(load_models="echo.mar", max_request_size=1000)
    return shared_server


@pytest.mark.parametrize(
    ("method", "target", "status", "error"),
    [
        ("POST", "/predictions/nobody", 404, "ModelNotFoundException"),
        ("POST", "/predictions/echo/9.9", 404, "ModelVersionNotFoundException"),
        ("POST", "/predictions", 404, "ResourceNotFoundException"),
        ("GET", "/nowhere", 404, "ResourceNotFoundException"),
        ("GET", "/", 405, "MethodNotAllowedException"),
        ("OPTIONS", "/predictions/nobody", 404, "ModelNotFoundException"),
        ("POST", "/predictions/%ff", 400, "BadRequestException"),
    ],
)
def test_a_request_that_leads_nowhere_gets_torchserves_error(server, method, target, status, error):
    reply = server.call(method, "inference", target)

    assert reply.status == status
    assert (reply.json()["code"], reply.json()["type"]) == (status, error)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["connection"] == "close"


def test_an_unknown_model_gets_the_body_that_clients_of_torchserve_know(server):
    reply = server.predict("resnet")

    assert reply.body == (
        b'{\n  "code": 404,\n  "type": "ModelNotFoundException",\n'
        b'  "message": "Model not found: resnet"\n}\n'
    )


@pytest.mark.parametrize("size", [1001, 5_000_000])
def test_a_body_over_the_limit_is_refused_before_it_is_read(server, size):
    with server.raw() as client:
        client.sendall(
            b"POST /predictions/echo HTTP/1.1\r\nHost: x\r\n"
            b"Content-Length: %d\r\n\r\nonly the beginning" % size
        )
        answer = client.recv(4096)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"max_request_size" in answer


def test_a_body_at_the_limit_is_served(server):
    assert server.predict("echo", b"x" * 1000).status == 200


def test_a_form_that_is_none_is_a_bad_request(server):
    reply = server.predict("echo", b"--B\r\nbroken", Content_Type="multipart/form-data; boundary=B")

    assert reply.status == 400
    assert "multipart/form-data" in reply.json()["message"]


@pytest.mark.parametrize(
    "entries",
    [
        [("../escaped.py", b"x")],
        [("/absolute.py", b"x")],
        [("a/../../escaped.py", b"x")],
        [("..\\escaped.py", b"x")],
        [("same.py", b"x"), ("SAME.py", b"y")],
        [("bomb.bin", b"\0" * 20_000_000)],
    ],
    ids=["parent", "absolute", "inside-out", "backslash", "twice", "bomb"],
)
def test_a_hostile_archive_is_refused_and_nothing_is_written(server, entries):
    before = _listing(server.root)
    path = server.store / "hostile.mar"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        manifest = {"runtime": "python", "model": {"modelName": "hostile", "handler": "h.py"}}
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("h.py", "def handle(data, context): return data")
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)

    reply = server.manage("POST", "/models?url=hostile.mar&initial_workers=1")
    path.unlink()

    assert reply.status == 400
    assert reply.json()["type"] == "InvalidModelException"
    assert _listing(server.root) == before
    assert server.manage("GET", "/models/hostile").status == 404


def _listing(root: Path) -> set[str]:
    """Everything but logs, whose rotation is nobody's attack."""
    return {
        str(path)
        for path in root.parent.rglob("*")
        if "logs" not in path.parts and path.name != "hostile.mar"
    }


def test_a_port_in_use_is_named_and_nothing_is_left_behind(server, tmp_path, request):
    other = type(server)(tmp_path)
    taken = server.addresses["inference"]

    other.start(inference_address=taken)

    assert other.wait() == 1
    assert taken in other.failed
    assert "inference_address" in other.failed
    assert not (tmp_path / "logs" / "marserve.json").exists()


@pytest.mark.parametrize(
    ("line", "complaints"),
    [
        ("job_queue_sise=10", ["line 3", "job_queue_size"]),
        ("batch_size=many", ["line 3", "batch_size", "many"]),
        ("inference_address=https://127.0.0.1:0", ["line 3", "certificate_file", "keystore"]),
        ("private_key_file=/etc/key.pem", ["line 3", "private_key_file"]),
    ],
)
def test_a_wrong_configuration_is_refused_with_the_place_and_the_remedy(
    server, tmp_path, line, complaints
):
    other = type(server)(tmp_path)
    config = tmp_path / "config.properties"
    config.write_text(f"model_store={other.store}\nlog_dir={tmp_path / 'logs'}\n{line}\n")

    other.start_with(config)

    assert other.wait() == 1
    output = other.output()
    assert [complaint for complaint in complaints if complaint not in output] == []
    assert "Traceback" not in output


def test_the_configuration_of_a_torchserve_operator_is_accepted_and_does_what_it_says(
    server, tmp_path, crowd
):
    """Only what two servers on one machine cannot share is replaced: ports and the log folder."""
    other = type(server)(tmp_path)
    other.pack("moody", "moody.py")
    text = AS_IT_STANDS.replace("/var/log/marserve", str(tmp_path / "logs"))
    for port in (8080, 8081, 8082):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            text = text.replace(f":{port}", f":{probe.getsockname()[1]}")
    config = tmp_path / "config.properties"
    config.write_text(
        text + f"cache_dir={tmp_path / 'cache'}\ngrpc_inference_port=0\ngrpc_management_port=0\n"
    )

    other.start_with(config, "--model-store", str(other.store), "--models", "moody=moody.mar")
    try:
        described = other.manage("GET", "/models/moody").json()[0]
        big = b"a" * 50_000_000
        echoed = other.predict("moody", big)
        output = other.output()
    finally:
        other.stop()

    assert other.failed is None
    assert (described["batchSize"], described["maxBatchDelay"]) == (8, 100)
    assert [worker["status"] for worker in described["workers"]] == ["READY"] * 4
    assert described["jobQueueStatus"]["remainingCapacity"] == 1000
    assert (echoed.status, len(echoed.body)) == (200, 50_000_000)
    assert output.count("number_of_netty_threads") == 1
    assert output.count("max_request_size") == 1
    assert output.count("max_batch_delay") == 1
