"""The memory of the cgroup counts where it is less than the machine's."""

import psutil
import pytest

from marserve.available_memory import available_bytes, total_bytes


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


V2 = {
    "memory.max": "1000\n",
    "memory.current": "900\n",
    "memory.stat": "anon 700\ninactive_file 150\n",
}
V1 = {
    "memory/memory.limit_in_bytes": "1000",
    "memory/memory.usage_in_bytes": "900",
    "memory/memory.stat": "cache 1\ntotal_inactive_file 150\n",
}


@pytest.mark.parametrize("files", [V2, V1], ids=["v2", "v1"])
def test_what_the_kernel_would_give_back_is_available(tmp_path, files):
    write(tmp_path, files)
    assert (total_bytes(tmp_path), available_bytes(tmp_path)) == (1000, 250)


@pytest.mark.parametrize("files", [{}, V2 | {"memory.max": "max\n"}, {"memory.max": "1000"}])
def test_without_a_limit_the_machine_counts(tmp_path, files):
    write(tmp_path, files)
    assert total_bytes(tmp_path) == psutil.virtual_memory().total
    assert 0 < available_bytes(tmp_path) <= total_bytes(tmp_path)


def test_a_cgroup_over_its_limit_has_nothing_left(tmp_path):
    write(tmp_path, V2 | {"memory.current": "5000"})
    assert available_bytes(tmp_path) == 0
