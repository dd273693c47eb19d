"""SEC-01: without a setting, no url makes the server fetch anything.

Two hundred spellings of urls, each of which some reader somewhere takes for the address of a
listener on this machine: none is connected to, and no file of the server changes.
"""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import grpc
import pytest
from grpc_client import MANAGEMENT, Stub
from running_server import Server

from marserve.protocols.pb.management_pb2 import RegisterModelRequest

SCHEMES = ("http", "https", "HTTP", "hTTps", "ftp", "gopher", "s3", "gs", "file", "jar:http")
HOSTS = (
    "127.0.0.1",
    "localhost",
    "LOCALHOST.",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "models.example@127.0.0.1",
    "127.0.0.1%00.models.example",
)
PATHS = ("/evil.mar", "//evil.mar?x=/m.mar", "/a/../evil.mar#.mar")
FORMS = (
    "//127.0.0.1:{port}/evil.mar",
    "///127.0.0.1:{port}/evil.mar",
    "\\\\127.0.0.1:{port}\\evil.mar",
    "http:127.0.0.1:{port}/evil.mar",
    "http:/127.0.0.1:{port}/evil.mar",
    "http:\\\\127.0.0.1:{port}\\evil.mar",
    "http://127.0.0.1:{port}\\@models.example/evil.mar",
    "http://models.example:{port}@127.0.0.1:{port}/evil.mar",
    " http://127.0.0.1:{port}/evil.mar",
    "http://127.0.0.1:{port}/evil.mar ",
    "ht\ttp://127.0.0.1:{port}/evil.mar",
    "http://127.0.0.1\t:{port}/evil.mar",
    "http://127.0.0.1:{port}/evil.mar\r\nX: y",
    "http://127。0。0。1:{port}/evil.mar",
    "http://①②⑦.0.0.1:{port}/evil.mar",
    "file:///etc/hostname",
    "file://localhost/etc/hostname",
    "file://127.0.0.1:{port}/evil.mar",
    "FILE:///etc/passwd?evil.mar",
    "127.0.0.1:{port}/evil.mar",
    "http%3A%2F%2F127.0.0.1:{port}%2Fevil.mar",
    "data:application/zip;base64,UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==",
    "unix:/run/evil.sock",
    "url:http://127.0.0.1:{port}/evil.mar",
)


def spellings(port: int) -> list[str]:
    """Two hundred of them."""
    made = (f"{s}://{h}:{port}{p}" for p, s, h in itertools.product(PATHS, SCHEMES, HOSTS))
    forms = [form.format(port=port) for form in FORMS]
    return list(itertools.islice(dict.fromkeys([*forms, *made]), 200))


@pytest.fixture(scope="module")
def sink() -> Iterator[tuple[int, list[str]]]:
    """A port that anybody on this machine can reach, and who connected to it."""
    callers: list[str] = []
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:

        def accept() -> None:
            while True:
                connection, peer = listener.accept()
                connection.close()
                if len(callers) and callers[-1] == "over":
                    return
                callers.append(str(peer))

        thread = threading.Thread(target=accept)
        thread.start()
        port = listener.getsockname()[1]
        yield port, callers
        callers.append("over")
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()


def files(*folders: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below the folders: when it was changed, and what it holds."""
    found = [path for folder in folders for path in sorted(folder.rglob("*"))]
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in found
    }


def test_a_listener_on_this_machine_would_be_seen(sink):
    port, callers = sink
    with socket.create_connection(("127.0.0.1", port)) as caller:
        assert caller.recv(1) == b""  # whoever accepted it has closed it
    Server.wait_until(lambda: callers)
    callers.clear()


def test_no_spelling_of_a_url_makes_the_server_connect_or_write(open_server, sink):
    port, callers = sink
    urls = spellings(port)
    assert len(set(urls)) == 200
    kept = (open_server.store, open_server.root / "cache", open_server.root / "logs" / "config")
    before = files(*kept)
    statuses = set()
    for url in urls:
        reply = open_server.manage("POST", f"/models?url={quote(url, safe='')}")
        statuses.add(reply.status)
    assert statuses <= {400, 404}
    assert callers == []
    assert files(*kept) == before


def test_nor_does_one_over_grpc(open_server, sink):
    port, callers = sink
    before = files(open_server.store)
    host, number = open_server.address("grpc_management")
    with grpc.insecure_channel(f"{host}:{number}") as channel:
        stub = Stub(channel, MANAGEMENT)
        for url in spellings(port)[::8]:
            with pytest.raises(grpc.RpcError) as refused:
                stub.RegisterModel(RegisterModelRequest(url=url), timeout=10)
            assert refused.value.code() in (
                grpc.StatusCode.NOT_FOUND,
                grpc.StatusCode.INVALID_ARGUMENT,
            )
    assert callers == []
    assert files(open_server.store) == before


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/evil.mar", "file:///tmp/evil.mar"])
def test_what_was_refused_is_not_found_by_its_bare_name_either(open_server, sink, url):
    """SEC-05: TorchServe once refused a url after it had fetched the archive."""
    assert open_server.manage("POST", "/models?url=" + url.format(sink[0])).status == 404
    assert open_server.manage("POST", "/models?url=evil.mar").status == 404
