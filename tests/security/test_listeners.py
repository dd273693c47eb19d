"""SEC-02: whatever is not opened by name is reached from this machine alone, gRPC and children too.

What listens is read from the kernel, not from the server's own words.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from marserve.config import build
from marserve.config_source import Source
from marserve.servers.port_tokens import PortTokens

PORTS = ("inference", "management", "metrics", "grpc_inference", "grpc_management")
_LISTEN = "0A"


def listening(pids: set[int]) -> set[tuple[str, int]]:
    """Address and port of every TCP socket that one of the processes listens on."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(link.readlink())
            except FileNotFoundError:  # closed meanwhile
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and fields[9] in inodes:
                found.add(_decoded(fields[1]))
    return found


def _decoded(text: str) -> tuple[str, int]:
    """`0100007F:1F90` -> 127.0.0.1, 8080: words in the byte order of the machine."""
    address, port = text.split(":")
    raw = bytes.fromhex(address)
    words = [raw[i : i + 4][::-1] for i in range(0, len(raw), 4)]
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, b"".join(words)), int(port, 16)


def test_a_listener_of_this_process_is_seen():
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        assert ("::1", listener.getsockname()[1]) in listening({psutil.Process().pid})


def test_an_empty_configuration_names_no_address_that_others_reach():
    config = build(Source(text=""), {}, {"HOME": "/home/me"}, Path("/work")).config
    hosts = [config.inference.host, config.management.host, config.metrics.host]
    hosts += [config.grpc_inference_host, config.grpc_management_host]
    assert all(ip_address(host).is_loopback for host in hosts)


def test_a_server_and_its_workers_listen_on_loopback_alone(open_server):
    pids = {open_server.process.pid, *(child.pid for child in open_server.children())}
    assert len(pids) >= 4  # zygote and two workers besides the server
    found = listening(pids)
    assert {port for _, port in found} == {open_server.address(name)[1] for name in PORTS}
    assert all(ip_address(address).is_loopback for address, _ in found)


@pytest.mark.parametrize("said", ["", "disable_token_authorization=false"])
@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.0.0.1", "[2001:db8::1]"])
def test_a_management_port_that_others_reach_asks_for_a_key_unasked(host, said, tmp_path):
    text = f"management_address=http://{host}:8081\ngrpc_management_address={host}\n{said}"
    config = build(Source(text=text), {}, {"HOME": "/home/me"}, tmp_path).config
    tokens = PortTokens(config, tmp_path)
    for port in ("management", "grpc_management"):
        assert tokens.authorize(port) is not None


def test_a_management_port_is_open_to_others_only_if_that_is_said_and_then_loudly(tmp_path):
    text = "management_address=http://0.0.0.0:8081\ndisable_token_authorization=true"
    loaded = build(Source(text=text), {}, {"HOME": "/home/me"}, tmp_path)
    assert any("ANYONE WHO REACHES THIS PORT" in warning for warning in loaded.warnings)
