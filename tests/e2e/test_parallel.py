"""Models whose workers are several processes, started by a real torchrun, and their siblings."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

NO_GPUS = {"enable_grpc_api": "false", "enable_metrics_api": "false", "number_of_gpu": 0}
LOOKS = """
import os

class Looks:
    def initialize(self, context):
        self.gpu = context.system_properties["gpu_id"]

    def handle(self, data, context):
        seen = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "TS_IPEX_ENABLE")}
        cores = sorted(os.sched_getaffinity(0))
        return [seen | {"gpu": self.gpu, "cores": cores, "parent": os.getppid()} for _ in data]
"""


def _pack(server, name, handler, text):
    yaml = server.root / f"{name}.yaml"
    yaml.write_text(text)
    server.pack(name, handler, config_file=str(yaml))


def _meeting_places(server):
    folders = (server.root / "t").iterdir()
    return [folder for folder in folders if not folder.name.startswith("marserve-run-")]


@pytest.fixture
def in_ranks(server, monkeypatch):
    (server.root / "t").mkdir()
    monkeypatch.setenv("TMPDIR", str(server.root / "t"))
    torchrun = "torchrun: {nproc-per-node: 2, OMP_NUMBER_THREADS: 3}\n"
    _pack(server, "sums", "ranks.py", f"parallelType: tp\nbatchSize: 4\n{torchrun}")
    _pack(server, "first", "lone_ranks.py", f"parallelType: pp\n{torchrun}")
    for wish in ("raise", "die"):
        _pack(server, wish, "lone_ranks.py", f"parallelType: tp\nwish: {wish}\n{torchrun}")
    return server


def test_the_ranks_of_a_worker_answer_together_and_are_replaced_together(in_ranks, crowd, tmp_path):
    server = in_ranks
    server.start(load_models="sums.mar", **NO_GPUS)
    assert server.problems == []

    first = server.predict("sums", b"3").json()

    assert first["sum"] == 6.0  # both ranks had the row
    assert (first["rank"], first["world"], first["batches"]) == (0, 2, 1)
    assert first["run"] == "sums_29500"
    assert first["threads"] == "3"
    assert not [name for name in first["own"] if "RANKS" in name]  # nobody else may join
    [worker] = server.workers("sums")
    assert worker["id"] == "29500"
    assert (server.root / "logs" / "torchelastic_ts").is_dir()
    assert _meeting_places(server) == []

    refused = server.predict("sums", b"raise")
    assert refused.status == 503
    assert "ValueError: nobody likes it" in refused.json()["message"]
    after = server.predict("sums", b"4").json()
    assert (after["sum"], after["pid"], after["batches"]) == (8.0, first["pid"], 3)

    # a rank is killed in the middle of a batch: nobody loses an answer, everything is replaced
    before = server.children()
    mark = tmp_path / "mark"
    again = server.predict("sums", f"die once {mark}".encode())
    assert again.status == 200, again
    assert again.json()["pid"] != first["pid"]
    zygote = before[0]
    server.wait_until(lambda: not any(p.is_running() for p in before if p.pid != zygote.pid), 5.0)
    [worker] = server.workers("sums")
    assert worker["restarts"] == 1
    assert worker["lastError"] == "rank 1 of its 2 processes has ended"

    # what unloading leaves
    assert server.manage("DELETE", "/models/sums").status == 200
    server.wait_until(lambda: all(p.pid == zygote.pid for p in server.children()), 5.0)
    log = (server.root / "logs" / "model_log.log").read_text()
    assert "W-29500-sums_1.0-stderr" in log


def test_a_rank_that_cannot_load_fails_its_worker(in_ranks, crowd):
    server = in_ranks
    server.start(load_models="none", **NO_GPUS)

    replies = crowd(
        lambda i: server.manage(
            "POST", f"/models?url={('raise', 'die')[i]}.mar&initial_workers=1&synchronous=true"
        ),
        2,
    ).join()
    assert [reply.status for reply in replies] == [500, 500]
    assert "rank 1 does not like it" in replies[0].json()["message"]
    assert "rank 1 of its 2 processes has ended" in replies[1].json()["message"]
    server.wait_until(lambda: len(server.children()) == 1, 5.0)


def test_a_server_that_is_killed_leaves_no_rank(in_ranks):
    server = in_ranks
    server.start(load_models="first.mar", **NO_GPUS)
    assert server.problems == []
    assert server.predict("first").json() == {"rank": "0", "world": "2", "batches": 1}
    children = server.children()
    assert len(children) == 6  # zygote, torchrun, two ranks, what each of them started

    server.stop(signal.SIGKILL)

    server.wait_until(lambda: not any(child.is_running() for child in children), 5.0)


def test_a_worker_sees_the_devices_that_are_its_own(server, tmp_path, monkeypatch):
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nfor n in 0 1 2; do echo GPU $n: a lie; done\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    looks = tmp_path / "looks.py"
    looks.write_text(LOOKS)
    custom = "parallelType: custom\nparallelLevel: 2\n"
    _pack(
        server, "own", str(looks), f"{custom}deviceIds: [2, 0, 1]\nminWorkers: 2\nmaxWorkers: 2\n"
    )
    _pack(server, "vast", str(looks), "parallelType: tp\nparallelLevel: 4\n")
    server.start(load_models="own.mar", ipex_enable="true", enable_grpc_api="false")

    seen = server.predict("own").json()

    assert seen["CUDA_VISIBLE_DEVICES"] == "2,0"
    assert seen["gpu"] == 0
    assert seen["TS_IPEX_ENABLE"] == "true"
    assert len(server.workers("own")) == 1  # there are devices for one worker, not for two
    refused = server.manage("POST", "/models?url=vast.mar")
    assert refused.status == 500
    assert refused.json()["message"] == "No enough gpu devices for model:vast parallelLevel:4"


def test_workers_under_the_cpu_launcher_share_the_cores(server, tmp_path):
    cores = psutil.cpu_count(logical=False) or 1
    looks = tmp_path / "looks.py"
    looks.write_text(LOOKS)
    server.pack("looks", str(looks))
    began = time.monotonic()
    server.start(
        load_models="looks.mar",
        cpu_launcher_enable="true",
        cpu_launcher_args="--disable-numactl --ninstances 1",
        **NO_GPUS,
    )
    assert server.problems == []
    [pid] = server.pids("looks")

    seen = server.predict("looks").json()

    assert seen["parent"] == pid
    assert "torch.backends.xeon.run_cpu" in psutil.Process(pid).cmdline()
    assert len(seen["cores"]) <= max(cores, len(os.sched_getaffinity(0)))
    assert time.monotonic() - began < 60
