"""SEC-11: where a port asks for a key, nothing is served without it, by whatever name it is asked.

The matrix is made of the tables from which the ports are made; a route that stands in none of them
fails the first test.
"""

from __future__ import annotations

import http.client
import itertools
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from running_server import Server

from marserve.events import Bus
from marserve.protocols.management_api import OPERATIONS, TOKEN_OPERATION
from marserve.servers import grpc as grpc_ports
from marserve.servers.management import create_app
from marserve.servers.routes import LEGACY_ROUTES, OIP_ROUTES, OPTIONS_ROUTES, ROUTES

METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")
FILLED = {
    "{model}": "echo",
    "{model_name}": "echo",
    "{version}": "1.0",
    "{model_version}": "1.0",
    "{workflow}": "flow",
    "{workflow_name}": "flow",
    "{path}": "more",
    "{*}": "more",
}
OPEN = {
    # what is told to everybody: how the inference API looks, and how keys are renewed with a key
    ("inference", "/"),
    ("inference", "/api-description"),
    ("management", "/token"),
}
OPEN_GRPC = {"grpc.health.v1.Health/Check"}
"""Probes carry no keys, and learn whether the server is up."""


def filled(path: str) -> str:
    for name, value in FILLED.items():
        path = path.replace(name, value)
    return path


def inference_routes() -> set[str]:
    rows = (*ROUTES, *OIP_ROUTES, *OPTIONS_ROUTES, *LEGACY_ROUTES)
    return {filled(route.path) for route in rows}


def management_routes() -> set[tuple[str, str]]:
    return {
        (operation.method, path)
        for operation in (*OPERATIONS, TOKEN_OPERATION)
        for path in operation.paths
    }


def routes() -> Iterator[tuple[str, str, str]]:
    """Port, a method that means something there, path."""
    yield from (("inference", "POST", path) for path in sorted(inference_routes()))
    yield from (
        ("management", method, filled(path)) for method, path in sorted(management_routes())
    )
    yield from (("metrics", "GET", path) for path in ("/", "/metrics", "/api-description"))


GUARDED = [one for one in routes() if (one[0], one[2]) not in OPEN]
PATHS = sorted({(port, path) for port, _, path in GUARDED})


def aliases(path: str) -> Iterator[str]:
    """Other spellings, each of which some router somewhere takes for `path`."""
    first, last = path[:2], path.rpartition("/")[2]
    yield path + "/"
    yield path + "//"
    yield "/" + path
    yield path.replace("/", "//")
    yield "/." + path
    yield path + "/."
    yield "/api-description/.." + path
    yield "/token/.." + path
    yield "/%2e%2e" + path
    yield path.replace("/", "/%2e/", 1)
    yield path[0] + path[1:].replace("/", "%2f")
    yield "/%" + f"{ord(first[1:] or 'x'):02x}" + path[2:]
    yield path.upper()
    yield path.capitalize().replace("/", "/", 1)
    yield path + "?x=/api-description"
    yield path + ";/api-description"
    yield path + "%3f/api-description"
    yield path + "%00"
    yield path + "%20"
    yield path + "/api-description"
    yield "http://127.0.0.1" + path
    yield "HTTP://api-description" + path
    yield path + "#/api-description"
    yield "/api-description%2f.." + path
    yield "/x/../" + path.lstrip("/")
    yield path + "/" + last
    yield "/v1/models/echo:predict" if "/predictions/" in path else path + "\\"
    yield "/v2" + path
    yield "/invocations" + path
    yield "/metrics/.." + path


def wrong_keys(key_of: Callable[[str], str], port: str) -> dict[str, str | None]:
    """What a request without the right to anything may carry."""
    other = "management" if port == "inference" else "inference"
    return {
        "none": None,
        "empty": "",
        "another scheme": "Basic YTpi",
        "no key": "Bearer",
        "garbage": "Bearer \xff\x01garbage",
        "another key": f"Bearer {key_of(other)}",
        "the key that renews": f"Bearer {key_of('API')}",
        "two keys": f"Bearer {key_of(other)} {key_of('API')}",
    }


def asked(server: Server, method: str, port: str, target: str, key: str | None) -> int:
    connection = http.client.HTTPConnection(*server.address(port), timeout=10)
    try:
        connection.putrequest(method, "/", skip_accept_encoding=True)
        # http.client mends targets; here they go out as they stand
        line = f"{method} {target} HTTP/1.1"
        connection._buffer[0] = line.encode("latin-1")
        if key is not None:
            connection.putheader("Authorization", key.encode("latin-1"))
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


# --- what there is ---------------------------------------------------------------------------


def test_the_management_port_has_no_route_that_the_matrix_does_not_know():
    nobody: Any = None
    app = create_app(nobody, nobody, nobody, nobody, "1", True, renew=lambda *_: None)
    served = {
        (method, rule.rule.replace("<", "{").replace(">", "}"))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }
    # Flask adds HEAD wherever GET is, and the port refuses it
    assert {one for one in served if one[0] != "HEAD"} == management_routes()


def test_the_inference_port_has_no_operation_that_the_matrix_does_not_know():
    assert inference_routes() == {
        *("/", "/api-description", "/ping/more", "/invocations/more", "/models/echo/invoke"),
        *("/predictions/echo", "/predictions/echo/1.0/more", "/predictions/echo/more"),
        *("/explanations/echo", "/explanations/echo/1.0/more", "/wfpredict/flow/more"),
        *("/v1/models/echo:predict", "/v1/models/echo:explain"),
        *("/v2/models/echo/infer", "/v2/models/echo/explain", "/v2/models/echo/versions/more"),
        *("/v2", "/v2/health/live", "/v2/health/ready"),
        *("/healthz/live", "/healthz/ready", "/healthz/ready/echo", "/healthz/ready/echo/1.0"),
        *("/echo/predict", "/echo/1.0/predict"),
    }


def grpc_methods() -> dict[str, frozenset[str]]:
    """The methods of both ports, from the ports themselves."""
    config: Any = SimpleNamespace(
        open_inference_protocol=True,
        header_key_sequence_id="id",
        enable_model_api=True,
        max_request_bytes=1,
        **{
            f"grpc_{port}_max_connection_age{end}_ms": None
            for port in ("inference", "management")
            for end in ("", "_grace")
        },
    )
    plane: Any = SimpleNamespace(describe=None)
    inference: Any = SimpleNamespace(is_healthy=lambda: True)
    with socket.socket() as one, socket.socket() as other:
        for sock in (one, other):
            sock.bind(("127.0.0.1", 0))
        ports = {
            "grpc_inference": grpc_ports.inference_port(
                one, inference, lambda: True, plane, Bus(), lambda: 0.0, config
            ),
            "grpc_management": grpc_ports.management_port(other, plane, Bus(), lambda: 0.0, config),
        }
        return {name: port.methods for name, port in ports.items()}


def test_the_grpc_ports_have_no_service_that_the_matrix_does_not_know():
    services = {name: {m.partition("/")[0] for m in ms} for name, ms in grpc_methods().items()}
    assert services == {
        "grpc_inference": {
            "org.pytorch.serve.grpc.inference.InferenceAPIsService",
            "org.pytorch.serve.grpc.openinference.GRPCInferenceService",
            "grpc.health.v1.Health",
        },
        "grpc_management": {
            "org.pytorch.serve.grpc.management.ManagementAPIsService",
            "grpc.health.v1.Health",
        },
    }


# --- what is served --------------------------------------------------------------------------


@pytest.mark.parametrize(("port", "path"), PATHS)
def test_no_method_serves_without_the_right_key(keyed_server, key_of, port, path):
    for method, (name, key) in itertools.product(METHODS, wrong_keys(key_of, port).items()):
        status = asked(keyed_server, method, port, path, key)
        assert status in (400, 401, 403), (method, name)
        assert status != 400 or name == "garbage", (method, name)


@pytest.mark.parametrize(("port", "method", "path"), GUARDED)
def test_no_other_spelling_is_served_without_a_key(keyed_server, port, method, path):
    for alias in aliases(path):
        status = asked(keyed_server, method, port, alias, None)
        described = (port, alias.partition("#")[0].rstrip("/")) == ("inference", "/api-description")
        assert status in (400, 401, 403) or described, (alias, status)


def test_what_is_open_tells_nothing_of_models(keyed_server):
    for method, target in (("GET", "/api-description"), ("OPTIONS", "/"), ("OPTIONS", "//")):
        body = keyed_server.call(method, "inference", target).body
        assert b"echo" not in body
    assert keyed_server.call("GET", "management", "/token?type=inference").status == 401
    assert keyed_server.call("OPTIONS", "management", "/").status == 401
    assert keyed_server.call("GET", "metrics", "/metrics").status == 401


def test_the_right_keys_open_everything(keyed_server, key_of):
    key = {
        name: {"Authorization": f"Bearer {key_of(name)}"} for name in ("inference", "management")
    }
    one = keyed_server.call("POST", "inference", "/predictions/echo", b"x", key["inference"])
    assert one.status == 200
    for port, target in (("management", "/models"), ("metrics", "/metrics"), ("metrics", "/")):
        method = "OPTIONS" if target == "/" else "GET"
        assert keyed_server.call(method, port, target, None, key["management"]).status == 200


def test_a_key_that_was_renewed_or_has_expired_is_refused_everywhere(server):
    server.pack("echo", "echo.py")
    server.start(
        load_models="echo.mar",
        disable_token_authorization="false",
        token_expiration_min="0.001",
        token_for_metrics="true",
    )
    keys = json.loads((server.root / "key_file.json").read_text())
    expired = {name: f"Bearer {keys[name]['key']}" for name in ("inference", "management")}

    def is_over() -> bool:
        return asked(server, "GET", "inference", "/ping", expired["inference"]) == 403

    server.wait_until(is_over)
    for port, method, path in GUARDED:
        key = expired["inference" if port == "inference" else "management"]
        assert asked(server, method, port, path, key) == 403, (port, path)
    Path(server.root / "key_file.json").unlink()


# --- gRPC ------------------------------------------------------------------------------------


def grpc_aliases(method: str) -> Iterator[str]:
    yield "/" + method
    yield "/" + method.lower()
    yield "/" + method + "/"
    yield "//" + method
    yield "/x/../" + method
    yield "/" + method.replace("/", "%2f")
    yield "/" + method.rpartition(".")[2]
    yield "/grpc.health.v1.Health/Check/../" + method
    yield "/grpc.health.v1.Health/Check?" + method
    yield "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    yield "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@pytest.mark.parametrize("port", ["grpc_inference", "grpc_management"])
def test_no_grpc_method_serves_without_the_right_key(keyed_server, key_of, port):
    keys = wrong_keys(key_of, port.removeprefix("grpc_"))
    host, number = keyed_server.address(port)
    with grpc.insecure_channel(f"{host}:{number}") as channel:
        for method in sorted(grpc_methods()[port] - OPEN_GRPC):
            for name, key in keys.items():
                if name != "garbage":  # the client library refuses to send it
                    metadata = None if key is None else [("authorization", key)]
                    assert refused(channel, "/" + method, metadata) in (
                        grpc.StatusCode.UNAUTHENTICATED,
                        grpc.StatusCode.PERMISSION_DENIED,
                    )
            for alias in grpc_aliases(method):
                assert refused(channel, alias, None) in (
                    grpc.StatusCode.UNAUTHENTICATED,
                    grpc.StatusCode.UNIMPLEMENTED,
                ), alias


def refused(channel: grpc.Channel, path: str, metadata: Any) -> grpc.StatusCode:
    def as_it_is(data: bytes) -> bytes:
        return data

    call = channel.unary_unary(path, as_it_is, as_it_is)
    with pytest.raises(grpc.RpcError) as error:
        call(b"", timeout=10, metadata=metadata)
    code: grpc.StatusCode = error.value.code()
    return code
