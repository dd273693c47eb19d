"""F14: what systemd gives a service and hears of it."""

import os
import socket
import sys

import pytest

from marserve.addresses import Address
from marserve.servers.inherited import Inherited
from marserve.service_manager import ServiceManager


@pytest.fixture
def told(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5.0)
        yield sock


def test_it_hears_of_every_state(told):
    environ = {"NOTIFY_SOCKET": told.getsockname(), "PATH": "/bin", "LISTEN_FDNAMES": "x"}
    manager = ServiceManager(environ)

    for tell, expected in (
        (lambda: manager.ready("3 models"), "READY=1\nSTATUS=3 models"),
        (lambda: manager.succeeded_by(7), "MAINPID=7\nREADY=1"),
        (manager.stopping, "STOPPING=1"),
    ):
        tell()
        assert told.recv(1000).decode() == expected
    manager.reloading()
    assert told.recv(1000).decode().startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert environ == {"PATH": "/bin"}  # no worker shall inherit it


def test_an_abstract_address_is_understood(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0marserve-{os.getpid()}")
        sock.settimeout(5.0)
        ServiceManager({"NOTIFY_SOCKET": f"@marserve-{os.getpid()}"}).stopping()
        assert sock.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "/nowhere/at/all"])
def test_nobody_who_listens_is_no_harm(address):
    ServiceManager({"NOTIFY_SOCKET": address}).ready()


def test_sockets_for_another_process_are_not_taken():
    assert ServiceManager({"LISTEN_PID": "1", "LISTEN_FDS": "2"}).sockets() == []
    mine = str(os.getpid())
    assert ServiceManager({"LISTEN_PID": mine, "LISTEN_FDS": "many"}).sockets() == []


def bound(host="127.0.0.1"):
    sock = socket.socket()
    sock.bind((host, 0))
    sock.listen()
    return sock


def test_a_port_finds_its_own_among_inherited_sockets():
    first, second = bound(), bound()
    number, where = second.getsockname()[1], str(first.getsockname())
    inherited = Inherited([("", first), ("", second)])

    assert inherited.take("inference", Address("127.0.0.1", 1)) is None
    assert inherited.take("inference", Address("127.0.0.1", 0)) is None  # any could be meant
    assert inherited.take("inference", Address("127.0.0.1", number)) is second
    assert inherited.take("management", Address("127.0.0.1", number)) is None
    assert inherited.close() == [where]
    assert first.fileno() == -1
    second.close()


def test_a_successor_keeps_the_free_port_that_was_drawn():
    with bound() as sock:
        inherited = Inherited([("management", sock)])
        assert inherited.take("inference", Address("127.0.0.1", 0)) is None
        assert inherited.take("management", Address("127.0.0.2", 0)) is None
        assert inherited.take("management", Address("127.0.0.1", 0)) is sock


ACTIVATED = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
"""
CHILD = """
import os, sys
from marserve.service_manager import ServiceManager
[sock] = ServiceManager(os.environ).sockets()
print(sock.getsockname()[1], os.get_inheritable(3), "LISTEN_FDS" in os.environ)
"""


def test_the_sockets_of_this_process_are_taken():
    import subprocess

    with bound() as sock:
        done = subprocess.run(
            [sys.executable, "-c", ACTIVATED, str(sock.fileno()), CHILD],
            env={**os.environ, "LISTEN_FDS": "1"},
            pass_fds=[sock.fileno()],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [str(sock.getsockname()[1]), "False", "False"]
