"""F13, I12: closing a listening socket resets nobody who has been let in."""

import asyncio
import socket

import pytest
import uvloop

from marserve.servers import parting
from marserve.servers.entrance import Entrance

MANY = 20


class Greeter(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"hello")
        transport.close()


def listening(family=socket.AF_INET, address=("127.0.0.1", 0)):
    sock = socket.socket(family)
    sock.bind(address)
    sock.listen(MANY)
    sock.setblocking(False)
    return sock


def connected(sock):
    client = socket.socket(sock.family)
    client.settimeout(5.0)
    client.connect(sock.getsockname())
    return client


@pytest.fixture(params=["tcp4", "tcp6", "unix"])
def door(request, tmp_path):
    match request.param:
        case "tcp4":
            sock = listening()
        case "tcp6":
            sock = listening(socket.AF_INET6, ("::1", 0))
        case _:
            sock = listening(socket.AF_UNIX, str(tmp_path / "door"))
    with sock:
        yield sock


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def run(request):
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield lambda scenario: runner.run(asyncio.wait_for(scenario, 20.0))


def test_who_waits_to_be_accepted_is_still_served_when_the_entrance_closes(door, run):
    async def scenario():
        entrance = Entrance(door, Greeter)
        await entrance.open()
        clients = [connected(door) for _ in range(MANY)]  # the loop has not seen any of them
        await entrance.close()
        while entrance.is_busy:
            await asyncio.sleep(0.01)
        return clients

    clients = run(scenario())
    assert [client.recv(100) for client in clients] == [b"hello"] * MANY
    for client in clients:
        client.close()


def test_an_entrance_that_others_share_leaves_who_waits_to_them(door, run):
    theirs = door.dup()

    async def scenario():
        entrance = Entrance(door, Greeter)
        await entrance.open()
        client = connected(door)
        await entrance.close(is_shared=True)
        return client

    with run(scenario()) as client, theirs:
        [accepted] = parting.waiting(theirs)
        with accepted, connected(theirs):  # and nobody is turned away
            accepted.sendall(b"theirs")
            assert client.recv(100) == b"theirs"


def test_who_comes_later_is_not_let_in(door):
    parting.refuse_new(door)

    late = socket.socket(door.family)
    late.settimeout(0.2)
    with late, pytest.raises(OSError):
        late.connect(door.getsockname())
    assert parting.waiting(door) == []


def test_bytes_that_nobody_has_read_are_seen():
    here, there = socket.socketpair()
    with here, there:
        assert not parting.has_unread(here)
        there.sendall(b"GET")
        assert parting.has_unread(here)
    assert not parting.has_unread(here)
