"""What a port answers stands in the document that it serves: every status, every body.

A few hundred requests of all operations with sensible and senseless values. Schemathesis makes many
more in benchmarks/reliability/api_contract.py.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from openapi_schema_validator import OAS30Validator

PORTS = ("inference", "management", "metrics")
PATH_VALUES = {
    "model_name": ("echo", "spare", "nobody", "%", "a b", "ü", "\U0001f600", "x" * 300, ".."),
    "model_version": ("1.0", "9.9", "all", "", "\x01"),
    "workflow_name": ("flow", "\x00"),
}
QUERY_VALUES = {
    "integer": ("0", "1", "-1", "2147483648", "x", "", "1.5", "٣"),
    "boolean": ("true", "FALSE", "2", ""),
    "string": ("spare.mar", "nothing.mar", "../m.mar", "http://127.0.0.1:1/m", "\x00", "x" * 200),
    "array": ("marserve_workers", "no_such"),
}
TIMES = 6


@pytest.fixture(scope="module")
def described(shared_server):
    for name in ("echo", "spare"):
        shared_server.pack(name, "echo.py")
    shared_server.start(load_models="echo.mar", ts_open_inference_protocol="true")
    return shared_server


def requests(document: dict[str, Any], dice: random.Random) -> Iterator[tuple[str, str, str, Any]]:
    """Template, method, target and what is said of the answers."""
    for path, operations in document["paths"].items():
        for (method, operation), _ in itertools.product(operations.items(), range(TIMES)):
            target, query = path, {}
            for parameter in operation["parameters"]:
                name, kind = parameter["name"], parameter["schema"]["type"]
                if parameter["in"] == "path":
                    value = quote(dice.choice(PATH_VALUES[name]), safe="")
                    target = target.replace(f"{{{name}}}", value)
                elif dice.random() < 0.5:
                    query[name] = dice.choice(QUERY_VALUES[kind])
            for name in ("min_worker", "max_worker", "initial_workers"):
                if query.get(name) == "2147483648":
                    query[name] = "1"  # a wish for so many would be refused, or tried
            target += f"?{urlencode(query)}" if query else ""
            yield path, method.upper(), target, operation["responses"]


def check(document: dict[str, Any], reply: Any, responses: dict[str, Any]) -> None:
    assert str(reply.status) in responses, reply
    content = responses[str(reply.status)].get("content", {})
    schema = content.get("application/json", {}).get("schema")
    if schema is not None:
        headers = {name.lower(): value for name, value in reply.headers.items()}
        assert headers["content-type"].partition(";")[0] == "application/json"
        resolved = schema | {"components": document["components"]}
        OAS30Validator(resolved).validate(json.loads(reply.body))


@pytest.mark.parametrize("port", PORTS)
def test_every_answer_stands_in_the_document(described, port):
    document = described.call("GET", port, "/api-description").json()
    dice = random.Random(7)
    made = 0
    for path, method, target, responses in requests(document, dice):
        body = dice.choice([None, b"", b"{}", b"{", b'{"url": 3}', b"\xff", b"x=y"])
        kind = dice.choice(["application/json", "text/plain", "multipart/form-data; boundary=b"])
        reply = described.call(method, port, target, body, {"Content-Type": kind})
        if reply.status == 404 and "404" not in responses and "%" in target.partition("?")[0]:
            continue  # what was to be one segment of a path is none
        try:
            check(document, reply, responses)
        except Exception as error:
            raise AssertionError(f"{method} {target} ({path}) with {body!r} as {kind}") from error
        made += 1
    assert made >= len(document["paths"]) * TIMES / 2
