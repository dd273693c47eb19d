"""SEC-08: between its start and its end the server's process runs no code that came as data.

The interpreter itself is the witness: an audit hook in the server's own process writes down every
import, exec, unpickling, process and connection from the moment at which it is ready. A session of
everything that a server does is held against it.
"""

from __future__ import annotations

import itertools
import marshal
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from grpc_client import INFERENCE, MANAGEMENT, Stub
from running_server import Server, end

from marserve.protocols.pb.inference_pb2 import PredictionsRequest
from marserve.protocols.pb.management_pb2 import ListModelsRequest, RegisterModelRequest

WATCHER = Path(__file__).parents[1] / "fixtures" / "watched"
STARTS_PROCESSES = "marserve/workers/supervisor.py"
"""The one module that may."""
READS_SOURCES = "marserve/frameworks.py"
"""Parses what an archive's handler imports."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("watched")
    patch = pytest.MonkeyPatch()
    inherited = filter(None, [str(WATCHER), os.environ.get("PYTHONPATH")])
    patch.setenv("PYTHONPATH", os.pathsep.join(inherited))
    patch.setenv("WATCH_FOLDER", str(folder))
    server = Server(folder)
    for name, handler in (("echo", "echo.py"), ("moody", "moody.py"), ("hostile", "hostile.py")):
        server.pack(name, handler)
    server.start(load_models="echo.mar,moody.mar", ts_open_inference_protocol="true")
    patch.undo()
    yield server
    end(server)


def seen(server: Server) -> list[str]:
    return (server.root / "seen").read_text().splitlines()


def session(server: Server) -> None:
    """A little of everything."""
    for name, body in (
        *(("echo", b"x"), ("moody", b"raise x"), ("moody", b"status 201"), ("moody", b"none")),
        *(("nobody", b"x"), ("echo", pickle.dumps({1: 2})), ("echo", marshal.dumps([1]))),
        ("moody", b"exit 3"),
    ):
        server.predict(name, body)
    kinds = ("application/json", "multipart/form-data; boundary=b", "text/plain", "image/png")
    targets = ("/v1/models/echo:predict", "/v2/models/echo/infer", "/invocations", "/ping", "/v2")
    for kind, target in itertools.product(kinds, targets):
        server.call("POST", "inference", target, b'{"instances": [1]}', {"Content-Type": kind})
    for method, target in (
        *(("GET", "/models"), ("GET", "/models/echo"), ("GET", "/api-description")),
        *(("POST", "/models?url=hostile.mar&initial_workers=1&synchronous=true"),),
        *(("PUT", "/models/hostile?min_worker=2&synchronous=true"), ("PUT", "/models/hostile/x")),
        *(("GET", "/models/hostile?customized=true"), ("POST", "/models?url=http://a.example/m")),
        *(("DELETE", "/models/hostile"), ("POST", "/models?url=nothing.mar"), ("GET", "/no")),
        *(("POST", "/workflows?url=no.war"), ("GET", "/workflows"), ("GET", "/token")),
    ):
        server.manage(method, target)
    for target in ("/metrics", "/metrics?name[]=marserve_workers", "/", "/api-description"):
        server.call("GET", "metrics", target)
    with server.raw() as sock:
        sock.sendall(b"\x00garbage\r\n\r\n")
        sock.recv(1000)
    over_grpc(server)


def over_grpc(server: Server) -> None:
    for port, service, method, request in (
        ("grpc_inference", INFERENCE, "Predictions", PredictionsRequest(model_name="echo")),
        ("grpc_inference", INFERENCE, "Predictions", PredictionsRequest(model_name="nobody")),
        ("grpc_management", MANAGEMENT, "ListModels", ListModelsRequest(limit=1)),
        ("grpc_management", MANAGEMENT, "RegisterModel", RegisterModelRequest(url="no.mar")),
    ):
        host, number = server.address(port)
        with grpc.insecure_channel(f"{host}:{number}") as channel, suppress(grpc.RpcError):
            getattr(Stub(channel, service), method)(request, timeout=30)


def test_a_session_of_everything_runs_no_code_that_came_as_data(watched):
    (watched.root / "armed").touch()
    session(watched)
    watched.wait_until(lambda: watched.predict("moody").status == 200)
    surprises = [line for line in seen(watched) if not is_expected(line)]
    assert surprises == []


def is_expected(line: str) -> bool:
    """The supervisor starts zygotes; and sources of handlers are read, into a tree and no further,
    to know what they import."""
    event, _, where = line.split("\t")
    if event == "subprocess.Popen":
        return STARTS_PROCESSES in where
    reader, _, asked_by = where.partition(" < ")
    return event == "compile" and "/ast.py:" in reader and READS_SOURCES in asked_by


DEEDS = """
import marshal, os, pickle, subprocess, sys
open(os.environ["WATCH_FOLDER"] + "/armed", "w").close()
pickle.loads(b"cos\\nsystem\\n(S'true'\\ntR.")
eval(marshal.loads(marshal.dumps(compile("1", "x", "eval"))))
subprocess.run(["true"])
import this
"""


def test_the_witness_sees_what_it_is_there_for(tmp_path):
    environ = os.environ | {"PYTHONPATH": str(WATCHER), "WATCH_FOLDER": str(tmp_path)}
    argv = [sys.executable, "-c", DEEDS, "marserve", "serve"]
    subprocess.run(argv, env=environ, check=True, stdout=subprocess.DEVNULL)
    events = {line.partition("\t")[0] for line in (tmp_path / "seen").read_text().splitlines()}
    assert events >= {
        *("pickle.find_class", "marshal.loads", "compile", "exec", "os.system"),
        *("subprocess.Popen", "import"),
    }
