"""Nothing outlives the server by two seconds, whatever killed it (I6; F03, F12)."""

import http.client
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from running_server import Server, end, lives

from marserve.workers import marks

LIMIT_S = 2.0


@pytest.fixture
def server(tmp_path):
    one = Server(tmp_path)
    one.pack("clinging", "clinging.py")
    yield one
    end(one)


def mark_of(server):
    return marks.mark_of(server.children()[0].pid)[0]


def brood(server, word=b"brood"):
    """Three processes that a worker has started: each better hidden than the one before."""
    reply = server.predict("clinging", word)
    assert reply.status == 200, reply
    return reply.json()["pids"]


def call_in_vain(server, body):
    def call():
        try:
            server.predict("clinging", body)
        except (OSError, http.client.HTTPException):
            return

    thread = threading.Thread(target=call)
    thread.start()
    return thread


def occupied(server, word, tmp_path):
    """A request that does not end, and has begun."""
    started = tmp_path / word
    thread = call_in_vain(server, f"{word} {started}".encode())
    server.wait_until(started.exists)
    return thread


def pids_of(mark):
    return marks.living(lambda found: found[0] == mark)


def all_gone(mark, pids=(), warden=None):
    """Wait for the end of all that carry the mark; how long that took."""
    began = time.monotonic()
    end_at = began + 20.0
    while time.monotonic() < end_at:
        left = [*pids_of(mark), *filter(lives, pids)]
        if warden is not None and lives(warden.pid):
            left.append(warden.pid)
        if not left:
            return time.monotonic() - began
        time.sleep(0.01)
    raise AssertionError(f"still there: {left}")


def zygote_of(server):
    return psutil.Process(psutil.Process(server.pids("clinging")[0]).ppid())


def busy(server, tmp_path):
    return occupied(server, "loop", tmp_path), []


def without_the_interpreter(server, tmp_path):
    return occupied(server, "gil", tmp_path), []


def kill_server(server):
    server.stop(signal.SIGKILL)


def kill_server_and_zygote(server):
    zygote = zygote_of(server)
    os.kill(server.process.pid, signal.SIGSTOP)  # so that neither sees the other die
    zygote.kill()
    server.stop(signal.SIGKILL)


def kill_server_beside_a_stopped_zygote(server):
    zygote_of(server).suspend()
    server.stop(signal.SIGKILL)


@pytest.mark.parametrize(
    ("state", "fate"),
    [
        (without_the_interpreter, kill_server),
        (busy, kill_server_beside_a_stopped_zygote),
    ],
)
def test_no_process_outlives_a_killed_server_by_two_seconds(server, tmp_path, state, fate):
    server.start(load_models="clinging.mar")
    mark, warden = mark_of(server), server.wardens()[0]
    thread, pids = state(server, tmp_path)
    folders = set(Path(tempfile.gettempdir()).glob(f"marserve-run-{mark:x}"))
    assert len(folders) == 1

    fate(server)

    assert all_gone(mark, pids, warden) < LIMIT_S
    assert not any(folder.exists() for folder in folders)
    if thread is not None:
        thread.join()


def test_a_server_that_is_killed_while_a_model_loads_leaves_nothing(server):
    server.pack("slow", "slow_load.py")
    server.start(load_models="clinging.mar")
    mark, warden = mark_of(server), server.wardens()[0]
    thread = threading.Thread(target=_register_in_vain, args=(server, "slow.mar"))
    thread.start()
    server.wait_until(lambda: len(pids_of(mark)) == 3)  # zygote, worker, the one that loads

    kill_server(server)

    assert all_gone(mark, (), warden) < LIMIT_S
    thread.join()


def _register_in_vain(server, url):
    try:
        server.manage("POST", f"/models?url={url}&initial_workers=1&synchronous=true")
    except (OSError, http.client.HTTPException):
        return


def test_a_warden_that_is_killed_is_replaced_and_signals_do_not_move_it(server):
    server.start(load_models="clinging.mar")
    mark, first = mark_of(server), server.wardens()[0]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        first.send_signal(number)
    server.predict("clinging", b"x")
    assert first.is_running()
    first.kill()
    server.wait_until(lambda: first.pid not in (found := pids_of_wardens(server)) and found)
    second, pids = server.wardens()[0], brood(server)

    kill_server_and_zygote(server)

    assert all_gone(mark, pids, second) < LIMIT_S


def pids_of_wardens(server):
    return [warden.pid for warden in server.wardens()]


def test_the_next_server_clears_up_when_the_warden_was_killed_too(server):
    server.start(load_models="clinging.mar")
    mark, warden, zygote, pids = (
        mark_of(server),
        server.wardens()[0],
        zygote_of(server),
        brood(server),
    )
    os.kill(server.process.pid, signal.SIGSTOP)
    warden.kill()
    zygote.kill()
    server.stop(signal.SIGKILL)
    assert lives(pids[2])

    server.start(load_models="clinging.mar")

    assert all_gone(mark, pids) < LIMIT_S
    assert server.predict("clinging", b"hello").body == b"hello"


def test_a_worker_a_zygote_and_an_orderly_stop_take_with_them_what_was_started(server):
    server.start(load_models="clinging.mar")
    mark, [worker], first = mark_of(server), server.pids("clinging"), brood(server)
    os.kill(worker, signal.SIGKILL)
    server.wait_until(lambda: not any(map(lives, first)), LIMIT_S)
    server.wait_until(lambda: worker not in server.pids("clinging"))
    second = brood(server)
    zygote_of(server).kill()
    server.wait_until(lambda: not any(map(lives, second)), LIMIT_S)
    third = brood(server)

    assert server.stop() == 0

    assert pids_of(mark) == []
    assert not any(map(lives, third))


def test_what_has_shed_its_mark_does_not_outlive_its_worker_nor_an_orderly_stop_or_death(server):
    """Who comes to the zygote without the mark of a living worker is ended."""
    server.start(load_models="clinging.mar")
    [worker], [first] = server.pids("clinging"), brood(server, b"shed")
    assert marks.mark_of(first) is None
    os.kill(worker, signal.SIGKILL)
    server.wait_until(lambda: not lives(first), LIMIT_S)
    server.wait_until(lambda: worker not in server.pids("clinging"))
    [second] = brood(server, b"shed")

    kill_server(server)

    server.wait_until(lambda: not lives(second), LIMIT_S)
    server.start(load_models="clinging.mar")
    [third] = brood(server, b"shed")
    assert server.stop() == 0
    assert not lives(third)


def test_a_zygote_that_is_stopped_holds_up_neither_an_unregistration_nor_a_stop(server):
    server.start(load_models="clinging.mar")
    zygote = zygote_of(server)
    zygote.suspend()

    reply = server.manage("DELETE", "/models/clinging")

    assert reply.status == 200
    zygote.suspend()
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 10.0
