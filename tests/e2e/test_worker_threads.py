"""How the workers of a model share the cores, and what follows them when their number changes."""

from __future__ import annotations

import pytest

from marserve.workers.cores import available_cores

CORES = available_cores()


@pytest.fixture
def start(server, monkeypatch):
    def start(workers, **environ):
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        server.pack("threads", "threads.py")
        server.start(load_models="threads.mar", default_workers_per_model=workers)
        assert server.problems == []
        return server

    return start


def shares(server):
    """What each worker that answers computes with: [torch, the variable]."""
    return server.predict("threads", b"x").json()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_share_the_cores(start, workers):
    each = max(1, CORES // workers)
    assert shares(start(workers)) == [each, str(each)]


def test_a_running_worker_gets_another_share_when_there_are_more(start):
    server = start(1)
    assert shares(server) == [CORES, str(CORES)]
    scaled = server.manage("PUT", "/models/threads?min_worker=2&max_worker=2&synchronous=true")
    assert scaled.status == 200
    each = max(1, CORES // 2)
    assert {tuple(shares(server)) for _ in range(20)} == {(each, str(each))}


def test_the_environment_decides_for_all(start):
    assert shares(start(1, OMP_NUM_THREADS="1")) == [1, "1"]
