"""Where the kernel says how often it killed for want of memory."""

import pytest

from marserve.workers.oom_kills import oom_kills


@pytest.fixture
def machine(tmp_path):
    """A `proc` and a `cgroup` folder, filled by path."""

    def fill(**files):
        for path, text in files.items():
            file = tmp_path / path.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return oom_kills(tmp_path / "proc", tmp_path / "cgroup")

    return fill


def test_the_own_control_group_is_asked_first(machine):
    assert (
        machine(
            proc__self__cgroup="0::/box\n",
            cgroup__box__memory_events="x",
            proc__vmstat="oom_kill 7\n",
        )
        == 7
    )


def test_a_group_of_the_second_version_says_it_in_memory_events(machine, tmp_path):
    folder = tmp_path / "cgroup" / "box"
    folder.mkdir(parents=True)
    (folder / "memory.events").write_text("low 0\noom 5\noom_kill 3\noom_group_kill 0\n")

    assert machine(proc__self__cgroup="0::/box\n", proc__vmstat="oom_kill 7\n") == 3


def test_a_group_of_the_first_version_says_it_in_oom_control(machine, tmp_path):
    folder = tmp_path / "cgroup" / "memory" / "box"
    folder.mkdir(parents=True)
    (folder / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")

    assert machine(proc__self__cgroup="4:cpu,memory:/box\n0::/\n") == 4


@pytest.mark.parametrize("cgroup", ["", "nonsense\n", "0::/box\n"])
def test_where_nobody_says_it_is_not_known(machine, cgroup):
    assert machine(proc__self__cgroup=cgroup) is None
    assert machine(proc__vmstat="nr_free 1\n") is None


def test_this_machine_can_be_asked():
    found = oom_kills()
    assert found is None or found >= 0
