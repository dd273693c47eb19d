"""F14: a restart refuses nobody and loses nothing, whether it works out or not."""

import asyncio
import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest
from chaos.callers import OK, Callers
from chaos.restarts import restart


@pytest.fixture(scope="module")
def running(shared_server):
    shared_server.pack("echo", "moody.py")
    shared_server.pack("more", "version.py")
    shared_server.start(load_models="echo.mar")
    return shared_server


@pytest.fixture
def echo(running):
    """It serves one model, and is left so, whichever process it is by then."""
    yield running
    if running.process is not None:
        running.manage("DELETE", "/models/more")


async def under_load(server, *restarts):
    """Do these one after the other while clients ask; the clients' books."""
    callers = Callers(
        server.address("inference"),
        server.addresses["grpc_inference"].removeprefix("grpc://"),
        body=b"sleep 0.003",
        ends_with_the_server=False,
    )
    await callers.start(fresh=6, kept=4, calls=2)
    await asyncio.sleep(0.2)
    for one in restarts:
        await asyncio.to_thread(one)
    await asyncio.sleep(0.2)
    return await callers.finish()


def test_restarts_under_load_refuse_nobody_and_lose_nothing(echo):
    assert echo.manage("POST", "/models?url=more.mar&initial_workers=1").status == 200
    before, addresses = echo.process.pid, dict(echo.addresses)
    keys = (echo.root / "key_file.json").read_bytes()
    done = []

    books = asyncio.run(under_load(echo, lambda: done.append(restart(echo))))

    assert [(one.code, one.former_code) for one in done] == [(0, 0)], done
    assert set(books.counts) == {OK}, books
    assert books.counts[OK] > 50
    assert echo.process.pid != before
    assert echo.addresses == addresses
    assert echo.predict("more").status == 200  # what was registered while it ran is there, too
    assert echo.manage("PUT", "/models/more?min_worker=1&synchronous=true").status == 200
    assert not psutil.pid_exists(before)
    assert (echo.root / "key_file.json").read_bytes() == keys  # and so they stay good


def test_a_restart_that_fails_leaves_the_server_as_it_was(echo):
    (echo.store / "echo.mar").rename(echo.store / "elsewhere.mar")
    before = echo.process.pid
    done = []

    books = asyncio.run(under_load(echo, lambda: done.append(restart(echo))))

    [failed] = done
    assert (failed.code, failed.former_code) == (1, None)
    assert "What serves there does not here: echo:1.0." in failed.said
    assert f"The server (pid {before}) goes on as before." in failed.said
    assert set(books.counts) == {OK}, books
    assert echo.call("GET", "inference", "/healthz/ready").status == 200
    assert echo.manage("POST", "/models?url=more.mar&initial_workers=1").status == 200
    (echo.store / "elsewhere.mar").rename(echo.store / "echo.mar")


def test_while_a_successor_loads_changes_are_put_off_and_a_killed_one_changes_nothing(echo):
    from marserve.succession import predecessor

    with predecessor(echo.root / "logs", 1.0) as former:
        assert former.pid == echo.process.pid
        assert "echo:1.0" in former.offer.serving
        refused = echo.manage("POST", "/models?url=more.mar&initial_workers=1")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert "restarted" in refused.json()["message"]
        assert echo.predict("echo").status == 200
    echo.wait_until(
        lambda: echo.manage("POST", "/models?url=more.mar&initial_workers=1").status == 200
    )


def test_the_socket_is_private_and_takes_no_nonsense(echo):
    path = echo.root / "logs" / "marserve.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.connect(str(path))
        stranger.send(b"\xff not what it expects")
        stranger.settimeout(5.0)
        assert stranger.recv(100) == b""
    assert echo.predict("echo").status == 200


def test_a_change_that_takes_too_long_puts_off_the_restart(echo, crowd):
    echo.pack("slow", "slow_load.py")
    before = len(echo.children())
    registering = crowd(lambda _: echo.manage("POST", "/models?url=slow.mar&initial_workers=1"), 1)
    echo.wait_until(lambda: len(echo.children()) > before)
    from marserve.succession import SuccessionFailed, predecessor

    with (
        pytest.raises(SuccessionFailed, match="still under way"),
        predecessor(echo.root / "logs", 0.2),
    ):
        pytest.fail("it handed over")
    assert echo.manage("GET", "/models").status == 200
    assert echo.predict("echo").status == 200
    path = echo.root / "logs" / "marserve.sock"
    assert echo.stop() == 0  # which ends the registration, too
    assert registering.join()[0].status == 503
    assert not path.exists()


def test_a_server_that_is_stopped_while_its_successor_loads_has_none(server, crowd, monkeypatch):
    monkeypatch.setenv("FICKLE_SWITCH", str(server.root / "switch"))
    server.pack("fickle", "fickle.py")
    server.start(load_models="fickle.mar")
    (server.root / "switch").write_text("slow")
    restarting = crowd(lambda _: restart(server), 1)
    log = server.root / "logs" / "ts_log.log"
    server.wait_until(lambda: "it loads the models" in log.read_text(), 20.0)
    process = server.process
    process.send_signal(signal.SIGTERM)
    assert process.wait(30.0) == 0

    [failed] = restarting.join()
    assert failed.code == 1
    assert "told to stop" in failed.said
    assert failed.took_s < 40.0  # a minute, if it had to load first


ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "marserve", "serve", *sys.argv[2:]])
"""


def test_a_service_of_systemd_gets_its_socket_and_tells_how_it_is(server, tmp_path):
    """sd_listen_fds(3) and sd_notify(3), with the test in the part of systemd."""
    server.pack("echo", "echo.py")
    config = tmp_path / "config.properties"
    with socket.socket() as sock, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        sock.bind(("127.0.0.1", 0))
        sock.listen(10)
        told.bind(str(tmp_path / "notify"))
        told.settimeout(60.0)
        number = sock.getsockname()[1]
        config.write_text(
            f"inference_address=http://127.0.0.1:{number}\nmanagement_address=http://127.0.0.1:0\n"
            f"enable_metrics_api=false\nenable_grpc_api=false\nmodel_store={server.store}\n"
            f"load_models=echo.mar\nlog_dir={tmp_path}/logs\ncache_dir={tmp_path}/cache\n"
        )
        early = socket.create_connection(("127.0.0.1", number))  # before there is a server
        early.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, str(sock.fileno()), "--config", str(config)],
            env={**os.environ, "LISTEN_FDS": "1", "NOTIFY_SOCKET": str(tmp_path / "notify")},
            pass_fds=[sock.fileno()],
            stdout=subprocess.DEVNULL,
            cwd=tmp_path,
        )
        try:
            with early:
                assert told.recv(100).startswith(b"READY=1")
                assert early.recv(100).startswith(b"HTTP/1.1 200 ")
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60.0) == 0
        assert told.recv(100) == b"STOPPING=1"
        with socket.create_connection(("127.0.0.1", number)):  # the next one will serve it
            pass
