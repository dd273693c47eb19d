"""The command lines and variables that launchers of torch get."""

from pathlib import PurePosixPath

import pytest

from marserve.registry.model_config import TorchRun
from marserve.workers.torchrun import CpuLaunch, Start, TorchRunLaunch, devices_environ, split

LOGS = PurePosixPath("/logs")
PROGRAM = ["python", "-c", "pass"]
START = Start("29502", 1, 29504, ())


def ranks(run=None, kind="tp", count=2):
    return TorchRunLaunch(run or TorchRun(), "bert", kind, count, LOGS)


def command(*meet):
    return [
        *("--nnodes", "1", "--nproc-per-node", "2", "--log-dir", "/logs/torchelastic_ts"),
        *meet,
        *("--rdzv-id", "bert_29502", "--max-restarts", "0", "--no-python", *PROGRAM),
    ]


HERE = ["--rdzv-backend", "static", "--node-rank", "0", "--local-addr", "127.0.0.1"]


@pytest.mark.parametrize(
    ("run", "meet"),
    [
        (TorchRun(), [*HERE, "--master-addr", "127.0.0.1", "--master-port", "29504"]),
        (
            TorchRun(master_addr="10.0.0.1", master_port=99),
            [*HERE, "--master-addr", "10.0.0.1", "--master-port", "99"],
        ),
        (
            TorchRun(rdzv_endpoint="store:1", rdzv_conf="timeout=9"),
            [
                *("--rdzv-backend", "c10d", "--rdzv-endpoint", "store:1"),
                *("--rdzv-conf", "timeout=9", "--node-rank", "0"),
            ],
        ),
        (
            TorchRun(rdzv_backend="etcd", node_rank=3, master_addr="a", master_port=7),
            [
                *("--rdzv-backend", "etcd", "--node-rank", "3"),
                *("--master-addr", "a", "--master-port", "7"),
            ],
        ),
    ],
)
def test_the_options_say_where_the_ranks_meet(run, meet):
    assert ranks(run).arguments(START, PROGRAM) == command(*meet)


def test_several_machines_meet_as_the_archive_says():
    made = ranks(TorchRun(nnodes="1:2")).arguments(START, PROGRAM)

    assert made[:2] == ["--nnodes", "1:2"]
    assert made[made.index("--rdzv-backend") + 1] == "c10d"
    assert "--local-addr" not in made


@pytest.mark.parametrize(("kind", "is_in_step"), [("tp", True), ("pptp", True), ("pp", False)])
def test_only_some_kinds_give_a_batch_to_every_rank(kind, is_in_step):
    assert ranks(kind=kind).is_in_step is is_in_step


def test_ranks_of_one_machine_talk_over_loopback_unless_somebody_says_otherwise():
    base = {"LOGLEVEL": "INFO", "OMP_NUM_THREADS": "4"}
    run = TorchRun(omp_threads=4)

    assert ranks(run).environ(START, {"GLOO_SOCKET_IFNAME": "eth0"}) == base | {
        "TP_SOCKET_IFNAME": "lo"
    }
    several = TorchRun(omp_threads=4, nnodes="2")
    assert ranks(several).environ(START, {}) == base
    with_devices = Start("1", 0, 1, (2, 3))
    assert ranks(several).environ(with_devices, {}) == base | {"CUDA_VISIBLE_DEVICES": "2,3"}


@pytest.mark.parametrize(
    ("devices", "inherited", "expected"),
    [
        ((), {"CUDA_VISIBLE_DEVICES": "1"}, {}),
        ((2, 0), {}, {"CUDA_VISIBLE_DEVICES": "2,0"}),
        ((1,), {"CUDA_VISIBLE_DEVICES": "4, 5"}, {"CUDA_VISIBLE_DEVICES": "5"}),
        ((0, 1), {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}, {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}),
        ((3,), {"CUDA_VISIBLE_DEVICES": "4,5"}, {"CUDA_VISIBLE_DEVICES": "3"}),
        ((0,), {"CUDA_VISIBLE_DEVICES": ""}, {"CUDA_VISIBLE_DEVICES": "0"}),
    ],
)
def test_devices_are_named_as_the_server_sees_them(devices, inherited, expected):
    assert devices_environ(devices, inherited) == expected


@pytest.mark.parametrize(
    ("args", "workers", "expected"),
    [
        ("", 1, []),
        ("--use_logical_core", 0, ["--use_logical_core"]),
        ("--node_id '0'", 3, ["--node_id", "0", "--ninstances", "3", "--rank", "1"]),
        ("", 2, ["--ninstances", "2", "--rank", "1"]),
    ],
)
def test_the_cpu_launcher_gives_each_worker_its_share(args, workers, expected):
    made = CpuLaunch(args, workers).arguments(START, PROGRAM)

    assert made == [*expected, "--no-python", *PROGRAM]


def test_a_quotation_that_is_not_closed_is_refused():
    with pytest.raises(ValueError, match="No closing quotation"):
        split("--log-path 'x")
