"""SEC-15: an error tells a client of predictions what went wrong, not where on this machine.

Every error that a handler, a worker, a queue, a parser or a route can be brought to give, over
HTTP and gRPC, is searched for places, numbers and names of this machine.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_client import INFERENCE, Stub
from running_server import Server, end

from marserve.protocols.pb.inference_pb2 import PredictionsRequest

CANARY = "canary-of-the-environment"
SECRETS = ("inference-canary-0123456789", "management-canary-0123456789", "keystore-canary")
CODE = re.compile(
    r"Traceback|File \"|line \d+, in|0x[0-9a-f]{6,}|\.py\b|site-packages|memfd|/dev/shm|/proc/"
)


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    server = Server(tmp_path_factory.mktemp("talking"))
    for name in ("hostile", "moody", "empty"):
        server.pack(name, "moody.py" if name != "hostile" else "hostile.py")
    server.start(
        load_models="hostile.mar,moody.mar",
        max_request_size=100_000,
        keystore_pass=SECRETS[2],
        inference_token=SECRETS[0],
        management_token=SECRETS[1],
        token_for_metrics="true",
    )
    patch.undo()
    yield server
    end(server)


BODIES = {
    "hostile": ("raise /etc/shadow", "leave now", f"raise {Path.home()}/.ssh/id_rsa"),
    "moody": (
        *("raise x", "short", "none", "memory", "mute", "surrogate", "set"),
        *("big 9999999", "status 99", "header a b=c", "header x=\r\ny: z"),
    ),
    "empty": ("x",),
    "nobody": ("x",),
}
RAW = (
    b"garbage\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    b"POST /predictions/moody HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\n",
    b"POST /predictions/moody HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    b"POST /predictions/moody HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b"
    b"\r\nContent-Length: 3\r\n\r\n--c",
    b"POST /predictions/moody HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: 1\r\n\r\n{",
    b"GET /v2/models/nobody/infer HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /wfpredict/nobody HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /invocations HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /healthz/ready/empty HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n",
)


def over_http(server: Server) -> Iterator[str]:
    for name, bodies in BODIES.items():
        for body in bodies:
            yield server.predict(name, body.encode()).body.decode()
    for request in RAW:
        with server.raw() as sock:
            sock.sendall(request)
            sock.shutdown(socket.SHUT_WR)
            yield b"".join(iter(lambda sock=sock: sock.recv(65536), b"")).decode("latin-1")


def over_grpc(server: Server) -> Iterator[str]:
    host, port = server.address("grpc_inference")
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        stub = Stub(channel, INFERENCE)
        for name, bodies in BODIES.items():
            for body in set(bodies) - {"leave now"}:  # once is enough
                try:
                    request = PredictionsRequest(model_name=name, input={"body": body.encode()})
                    stub.Predictions(request, timeout=30)
                except grpc.RpcError as error:
                    yield f"{error.details()} {error.trailing_metadata()}"


def leaks(server: Server, text: str) -> list[str]:
    """What of this machine stands in an answer."""
    assert server.process is not None
    pids = {server.process.pid, os.getpid(), *(one.pid for one in server.children())}
    names = [CANARY, *SECRETS, str(server.root), str(Path.home()), str(Path(__file__).parents[2])]
    names += ["/etc/shadow", "/tmp/", f"/{getpass.getuser()}/"]
    found = [name for name in names if name in text]
    found += CODE.findall(text)
    # addresses of clients are none of our pids
    return found + [str(pid) for pid in pids if re.search(rf"\b{pid}\b", text)]


@pytest.fixture(scope="module")
def told(talking: Server) -> list[str]:
    """Every error, once."""
    registered = {"Authorization": f"Bearer {SECRETS[1]}"}
    talking.call("POST", "management", "/models?url=empty.mar&initial_workers=0", None, registered)
    return [*over_http(talking), *over_grpc(talking)]


def test_no_error_tells_of_this_machine(talking, told):
    assert len(told) > 40
    assert [(text, leaks(talking, text)) for text in told if leaks(talking, text)] == []


def test_what_torchserves_clients_look_for_is_still_there(told):
    text = "\n".join(told)
    for words in (
        "Prediction failed: FileNotFoundError: [Errno 2] No such file or directory",
        "Prediction failed: ValueError: cannot digest x",
        "number of batch response mismatched",
        "Model not found: nobody",
        "Please use scale workers API to add workers.",
        "Worker died.",
    ):
        assert words in text


def test_the_log_has_the_rest_under_the_same_id(talking):
    reply = talking.predict("hostile", b"raise the-cause")
    log = talking.root / "logs" / "model_log.log"
    talking.wait_until(lambda: reply.headers["x-request-id"] in log.read_text())
    talking.wait_until(lambda: "the-cause" in log.read_text())
    assert "the-cause" in reply.json()["message"]


def test_a_failure_of_the_server_itself_gets_a_number_and_no_words(open_server):
    """What nobody foresaw: the body names an incident, and the log has it."""
    from marserve.protocols.faults import fault, fault_body

    document = json.loads(fault_body(fault(ZeroDivisionError("/srv/secret/0x7fff12345678"))))
    assert re.fullmatch(
        r"Internal error; the server's log has it as [0-9a-f]{16}\.", document["message"]
    )


def test_keys_and_passwords_stand_in_no_log_metric_or_state(talking):
    bearer = {"Authorization": f"Bearer {SECRETS[1]}"}
    assert talking.call("GET", "metrics", "/metrics", None, bearer).status == 200
    shown = talking.call("GET", "metrics", "/metrics", None, bearer).body.decode()
    shown += talking.output()
    for path in (talking.root / "logs").rglob("*"):
        if path.suffix == ".cfg":  # a snapshot is a configuration that the next start reads
            assert path.stat().st_mode & 0o077 == 0
        elif path.is_file():
            shown += path.read_text(errors="replace")
    assert [secret for secret in (*SECRETS, CANARY) if secret in shown] == []


def test_the_file_of_the_keys_is_its_owners_alone(keyed_server):
    assert stat.S_IMODE((keyed_server.root / "key_file.json").stat().st_mode) == 0o600
