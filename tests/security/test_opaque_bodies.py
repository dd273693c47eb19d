"""SEC-09: what would become an object, and run code, if anybody unpickled it stays bytes.

Payloads that create a file when they are loaded, sent to every route of every port, under every
content type and header by which a server was ever talked into loading them.
"""

from __future__ import annotations

import io
import itertools
import marshal
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from marserve.protocols.management_api import OPERATIONS
from marserve.servers.routes import OIP_ROUTES, ROUTES

CONTENT_TYPES = (
    "application/octet-stream",
    "application/vnd.bentoml+pickle",
    "application/x-pickle",
    "application/python-pickle",
    "application/x-npy",
    "application/x-pytorch",
    "application/json",
    "application/x-joblib",
)
TRICKS: tuple[dict[str, str], ...] = (
    {},
    {"args-number": "2"},
    {"Payload-Container": "PickleBytesPayload", "Payload-Meta": '{"with_buffer": true}'},
    {"Content-Encoding": "pickle"},
    {"Inference-Header-Content-Length": "0"},
    {"X-Serializer": "cloudpickle", "Accept": "application/x-pickle"},
)


class Creates:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> object:
        return (open, (str(self._path), "w"))


def payloads(canary: Path) -> dict[str, bytes]:
    """By name."""
    pickled = {f"pickle {n}": pickle.dumps(Creates(canary), n) for n in (0, 2, 5)}
    array = io.BytesIO()
    np.save(array, np.array([Creates(canary)], dtype=object), allow_pickle=True)
    torch = io.BytesIO()
    with zipfile.ZipFile(torch, "w") as archive:
        archive.writestr("archive/data.pkl", pickled["pickle 2"])
        archive.writestr("archive/version", "3\n")
    code = compile(f"open({str(canary)!r}, 'w')", "canary", "exec")
    return pickled | {
        "npy": array.getvalue(),
        "torch": torch.getvalue(),
        "marshal": marshal.dumps(code),
    }


def targets() -> Iterator[tuple[str, str, str]]:
    """Port, method and target of everything that takes a body."""
    for route in (*ROUTES, *OIP_ROUTES):
        path = route.path.replace("{model}", "echo").replace("/{version}/{path}", "/1.0")
        path = path.replace("{version}", "1.0").replace("{workflow}", "flow").replace("/{*}", "")
        yield "inference", "POST", path
    for operation in OPERATIONS:
        for path in operation.paths:
            path = path.replace("{model_name}", "echo").replace("{model_version}", "1.0")
            if operation.method != "DELETE":
                yield "management", operation.method, path.replace("{workflow_name}", "flow")
    yield "metrics", "POST", "/metrics"


def test_the_payloads_do_what_they_threaten(tmp_path):
    canary = tmp_path / "canary"
    pickle.loads(payloads(canary)["pickle 2"]).close()
    assert canary.exists()


@pytest.mark.parametrize("name", ["pickle 0", "pickle 2", "pickle 5", "npy", "torch", "marshal"])
def test_nobody_loads_it(open_server, tmp_path, name):
    canary = tmp_path / "canary"
    payload = payloads(canary)[name]
    choices = itertools.cycle(itertools.product(CONTENT_TYPES, TRICKS))
    for (port, method, target), (kind, trick) in zip(
        [one for one in targets() for _ in range(3)], choices, strict=False
    ):
        reply = open_server.call(method, port, target, payload, {"Content-Type": kind, **trick})
        assert reply.status < 500 or reply.status == 501, (target, kind, trick, reply)
        if "/predictions/" in target and reply.status == 200 and kind != "application/json":
            assert reply.json()["body"].encode("latin-1") == payload
    assert not canary.exists()
    assert open_server.predict("echo").status == 200


def test_every_content_type_and_trick_reaches_a_handler_as_bytes(open_server, tmp_path):
    canary = tmp_path / "canary"
    payload = payloads(canary)["pickle 2"]
    for kind, trick in itertools.product(CONTENT_TYPES, TRICKS):
        headers = {"Content-Type": kind, **trick}
        reply = open_server.call("POST", "inference", "/predictions/echo", payload, headers)
        assert reply.status in (200, 400), (kind, trick, reply)
    assert not canary.exists()
