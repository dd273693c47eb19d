"""F45: a remote store that drips holds a place among the downloads, and nothing else."""

from __future__ import annotations

import socket
import time

from scripted_http import reply, scripted_http

from marserve.registry.store import MAX_DOWNLOADS


def test_slow_downloads_hold_up_neither_management_nor_other_models_nor_the_end(server, crowd):
    server.pack("echo", "echo.py")
    server.pack("remote", "echo.py")
    archive = (server.store / "remote.mar").read_bytes()
    (server.store / "remote.mar").unlink()
    with scripted_http() as source:

        def drip(sock: socket.socket) -> None:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not source.ending.wait(0.1):
                sock.sendall(b"x")

        for number in range(MAX_DOWNLOADS + 1):
            source.answers[f"/slow{number}.mar"] = drip
        source.answers["/remote.mar"] = reply(archive)
        server.start(allowed_urls=f"http://127.0.0.1:{source.port}/.*")
        url = f"http://127.0.0.1:{source.port}"
        slow = crowd(
            lambda number: server.manage("POST", f"/models?url={url}/slow{number}.mar"),
            MAX_DOWNLOADS,
        )
        server.wait_until(lambda: len(source.asked) == MAX_DOWNLOADS)
        one_more = server.manage("POST", f"/models?url={url}/slow{MAX_DOWNLOADS}.mar")
        assert (one_more.status, one_more.json()["type"]) == (503, "ServiceUnavailableException")
        assert len(source.asked) == MAX_DOWNLOADS
        began = time.monotonic()
        assert server.manage("POST", "/models?url=echo.mar&initial_workers=1").status == 200
        for _ in range(20):
            assert server.manage("GET", "/models").status == 200
        assert server.predict("echo").status == 200
        assert time.monotonic() - began < 5
        # nobody waits for an archive when the server ends
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 8
        source.ending.set()
        assert all(reply.status >= 400 for reply in slow.join() if reply is not None)
    assert [path.name for path in server.store.iterdir()] == ["echo.mar"]
