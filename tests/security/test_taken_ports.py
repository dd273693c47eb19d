"""F28: a port that is taken ends the start at once, names the port and its holder, and nothing was
half-started: every other port is free again."""

import os
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from marserve.config import load
from marserve.errors import PortInUse
from marserve.servers.ports import Ports

NAMES = ("inference", "management", "metrics", "grpc_inference", "grpc_management")
HTTP = NAMES[:3]
HOLDER = f"by {Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()})"
CASES = [
    *((name, kind) for name in NAMES for kind in ("127.0.0.1", "::1")),
    *((name, "unix") for name in HTTP),
]


def taken(kind, folder):
    """Somebody who listens, and where."""
    if kind == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(folder / "taken.sock"))
        sock.listen()
        return sock, str(folder / "taken.sock")
    family = socket.AF_INET6 if ":" in kind else socket.AF_INET
    sock = socket.create_server((kind, 0), family=family)
    return sock, sock.getsockname()[1]


def free_ports(count):
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    numbers = [sock.getsockname()[1] for sock in socks]
    for sock in socks:
        sock.close()
    return numbers


def settings_of(name, kind, where, free):
    given = {}
    for one, number in zip(NAMES, free, strict=True):
        if one in HTTP:
            given[f"{one}_address"] = f"http://127.0.0.1:{number}"
        else:
            given[f"{one}_port"] = str(number)
    if kind == "unix":
        given[f"{name}_address"] = f"unix:{where}"
    elif name in HTTP:
        given[f"{name}_address"] = (
            f"http://[{kind}]:{where}" if ":" in kind else f"http://{kind}:{where}"
        )
    else:
        given[f"{name}_address"], given[f"{name}_port"] = kind, str(where)
    return given


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_port_that_is_taken_is_named_and_no_other_is_kept(name, kind, tmp_path):
    sock, where = taken(kind, tmp_path)
    free = free_ports(len(NAMES))
    given = settings_of(name, kind, where, free)
    config = load(None, given, {"HOME": str(tmp_path)}, tmp_path).config
    began = time.monotonic()
    with sock, pytest.raises(PortInUse) as refused, ExitStack() as stack:
        Ports(config, stack, None)
    assert time.monotonic() - began < 2.0
    said = str(refused.value)
    assert str(where) in said
    assert f"{name}_address" in said
    assert HOLDER in said
    for one, number in zip(NAMES, free, strict=True):
        if one != name:
            socket.create_server(("127.0.0.1", number), reuse_port=False).close()


def test_a_port_that_may_not_be_opened_is_named_without_a_holder(tmp_path):
    given = {"inference_address": "http://192.0.2.1:8080"}  # an address of nobody's
    config = load(None, given, {"HOME": str(tmp_path)}, tmp_path).config
    with pytest.raises(PortInUse) as refused, ExitStack() as stack:
        Ports(config, stack, None)
    assert "http://192.0.2.1:8080 (inference_address) cannot be opened" in str(refused.value)
    assert "pid" not in str(refused.value)
