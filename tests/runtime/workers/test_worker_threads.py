import os
import sys
from types import SimpleNamespace

import pytest

from marserve.workers.worker_threads import WorkerThreads


class Library:
    """Stands in for torch, whose number of threads is the test process's own."""

    def __init__(self, threads=16):
        self.threads = threads
        self.told = []

    def get_num_threads(self):
        return self.threads

    def set_num_threads(self, threads):
        self.threads = threads
        self.told.append(threads)


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "will be put back")
    monkeypatch.delenv("OMP_NUM_THREADS")
    for name in ("torch", "threadpoolctl"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_what_is_imported_is_told_and_what_comes_later_reads_it(monkeypatch):
    torch, told = Library(), []
    monkeypatch.setitem(sys.modules, "torch", torch)
    pools = SimpleNamespace(threadpool_limits=lambda limits: told.append(limits))
    monkeypatch.setitem(sys.modules, "threadpoolctl", pools)
    threads = WorkerThreads()
    threads.use(2)
    threads.use(2)
    threads.use(1)
    assert torch.told == [2, 1]
    assert told == [2, 1]
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_without_a_share_nothing_is_touched(monkeypatch):
    torch = Library()
    monkeypatch.setitem(sys.modules, "torch", torch)
    WorkerThreads().use(None)
    assert torch.told == []
    assert "OMP_NUM_THREADS" not in os.environ


def test_what_the_handler_sets_stays(monkeypatch):
    torch = Library()
    monkeypatch.setitem(sys.modules, "torch", torch)
    threads = WorkerThreads()
    threads.use(2)
    torch.threads = 7
    threads.use(1)
    assert torch.threads == 7
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_so_does_a_variable_that_the_handler_sets(monkeypatch):
    torch = Library()
    monkeypatch.setitem(sys.modules, "torch", torch)
    threads = WorkerThreads()
    threads.use(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    threads.use(1)
    assert torch.told == [2]


def test_a_library_that_the_handler_imported_follows_as_well(monkeypatch):
    threads = WorkerThreads()
    threads.use(2)
    torch = Library(threads=2)  # as it read the environment
    monkeypatch.setitem(sys.modules, "torch", torch)
    threads.use(4)
    assert torch.told == [4]
