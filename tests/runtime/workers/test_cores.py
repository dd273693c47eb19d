import os

import pytest

from marserve.workers.cores import available_cores, available_processors, cores_of


@pytest.fixture
def machine(tmp_path):
    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return tmp_path

    return write


def siblings(machine, groups):
    for group in groups:
        for number in group.split(","):
            path = f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list"
            root = machine(path, f"{group}\n")
    return root


@pytest.mark.parametrize(
    ("groups", "processors", "cores"),
    [
        (["0", "1", "2", "3"], {0, 1, 2, 3}, 4),
        (["0,2", "1,3"], {0, 1, 2, 3}, 2),
        (["0,2", "1,3"], {0, 2}, 1),
        (["0,2", "1,3"], {0, 1}, 2),
        (["0"], {0, 7}, 2),
        (["0"], set(), 1),
    ],
)
def test_threads_of_one_core_count_once(machine, groups, processors, cores):
    assert cores_of(processors, siblings(machine, groups)) == cores


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        ({"sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
        ({"sys/fs/cgroup/cpu.max": "10000 100000"}, 1),
        ({"sys/fs/cgroup/cpu.max": "nonsense"}, 8),
        ({"sys/fs/cgroup/cpu.max": "1600000 100000"}, 8),
        (
            {
                "proc/self/cgroup": "0::/pods/one\n",
                "sys/fs/cgroup/pods/cpu.max": "300000 100000",
                "sys/fs/cgroup/pods/one/cpu.max": "500000 100000",
            },
            3,
        ),
        ({"proc/self/cgroup": "0::/../other\n", "sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            4,
        ),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            8,
        ),
    ],
)
def test_a_container_has_as_many_as_it_may_keep_busy(machine, tmp_path, files, cores):
    for path, text in files.items():
        machine(path, text)
    assert cores_of(range(8), tmp_path) == cores


def test_this_process_has_cores_and_no_more_than_it_may_run_on():
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))


def test_both_threads_of_a_core_are_processors_within_the_quota(machine, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    root = siblings(machine, ["0,2", "1,3"])
    assert available_processors(root) == 4
    machine("sys/fs/cgroup/cpu.max", "250000 100000")
    assert available_processors(root) == 3
